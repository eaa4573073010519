import { CPU } from "../../runtime/ort/device.js";
import { sharedMemory } from "../../runtime/ort/shared-memory.js";
import { Tensor } from "../../runtime/ort/tensor.js";
import { BatchCut } from "./cut/batch-cut.js";
import type { CutArrays } from "./cut/cut-memory.js";
import { CutThreads } from "./cut/cut-threads.js";
import { encodeGraph } from "./encode-graph.js";
import { levelSizes } from "./nested-reconstructions.js";
import { StateTensors, type TrainingState } from "./sae-state.js";
import type { StepConfig, TrainedActivation } from "./step-config.js";
import { adamScalars, FLOOR, gradient, RATE } from "./step-graph.js";
import { StepSession } from "./step-session.js";
import { countIdle, followed, type StepRate, type StepResult, type TrainingStep } from "./training-step.js";
import { PULL, TARGET_PULL, updateGraph } from "./update-graph.js";

export interface StepOptions {
  readonly threads: number;
  /** For tests: gradients are kept, as `grad.<weight>`. */
  readonly showsGradients?: boolean;
}

/**
 * A step of top-AFA, top-k or batch top-k on the CPU. What the graphs compute is cut by threads of JavaScript between them:
 * ONNX Runtime's TopK takes longer than all products together (2,048 rows of 1,024 on 2 cores: 83 ms in order, 13 ms for 64
 * places, against 24 ms of products and 5 ms of the cut here).
 */
export class CuttingStep implements TrainingStep {
  readonly rows: CutArrays;
  readonly #threads: CutThreads;
  readonly #cut: BatchCut;
  readonly #tensors: ReadonlyMap<string, Tensor>;
  readonly #state: StateTensors;
  readonly #encode: StepSession;
  readonly #update: StepSession;
  #updateDead: StepSession | undefined;
  readonly #idle: Uint32Array;
  #threshold: number | null;
  #step: number;
  readonly #inputLengths: Float32Array;
  readonly #pulls: Float32Array;
  readonly #targetPulls: Float32Array;

  constructor(
    readonly config: StepConfig,
    readonly activation: Exclude<TrainedActivation, { kind: "jumprelu" }>,
    state: TrainingState,
    readonly options: StepOptions,
  ) {
    const { batch, dSae } = config;
    this.#threads = new CutThreads({ batch, dSae }, options.threads);
    this.rows = this.#threads.arrays;
    this.#cut = new BatchCut(this.#threads, activation);
    this.#tensors = this.#bound();
    this.#state = new StateTensors(config, CPU);
    this.#encode = this.#session(encodeGraph(config));
    this.#update = this.#session(updateGraph(config, { dead: null, ...this.#shown }));
    this.#idle = Uint32Array.from(state.idle);
    this.#threshold = state.threshold;
    this.#step = state.step;
    this.#state.write(this.#set, state.tensors);
    this.#inputLengths = new Float32Array(batch);
    this.#pulls = new Float32Array(batch);
    this.#targetPulls = new Float32Array(batch);
  }

  run(x: Float32Array, { learningRate }: StepRate): StepResult {
    const { config, rows } = this;
    const { rate, floor } = adamScalars(config.adam, this.#step + 1, learningRate);
    this.#tensor("x").write(x);
    this.#tensor(RATE).write([rate]);
    this.#tensor(FLOOR).write([floor]);
    this.#encode.run(this.#set);
    this.#cut.cut();
    const dead = countIdle(this.#idle, rows.fired, config.dead.after, rows.deadFeatures);
    const afa = this.#pull();
    if (dead > 0) {
      this.#threads.run({ kind: "revive", dead, most: config.dead.most });
      this.#updateDead ??= this.#session(updateGraph(config, { dead: "rows", ...this.#shown }));
    }
    const update = dead > 0 ? this.#updateDead : this.#update;
    update?.run(this.#set);
    this.#step++;
    const [mse, variance, aux] = [this.#number("mse"), this.#number("variance"), dead > 0 ? this.#number("aux") : 0];
    const leastKept = smallest(rows.least, rows.counts);
    const inner = this.#isNested ? this.#number("inner") : 0;
    if (this.activation.kind === "batch-topk" && leastKept > 0) this.#threshold = followed(this.#threshold, leastKept);
    const l0 = rows.counts.reduce((sum, count) => sum + count, 0) / config.batch;
    return {
      ...{ mse, unexplained: mse / variance, inner, afa, aux, l0Loss: 0, total: mse + inner + afa + aux },
      ...{ l0, leastKept, dead },
    };
  }

  get made(): number {
    return this.#step;
  }

  activations(x: Float32Array): Float32Array {
    this.#tensor("x").write(x);
    this.#encode.run(this.#set);
    return this.rows.activations;
  }

  state(): TrainingState {
    return {
      step: this.#step,
      tensors: this.#state.read(this.#set),
      idle: Uint32Array.from(this.#idle),
      threshold: this.#threshold,
    };
  }

  /** For tests: a gradient of the last step, where they are kept. */
  gradient(weight: string): Float32Array {
    const tensor = this.#tensor(gradient(weight));
    return tensor.read(new Float32Array(tensor.size));
  }

  [Symbol.dispose](): void {
    const sessions = [this.#encode, this.#update, ...(this.#updateDead ? [this.#updateDead] : [])];
    for (const each of [...sessions, ...this.#tensors.values(), this.#state, this.#threads]) each[Symbol.dispose]();
  }

  /** Of the state that the next step reads. */
  get #set(): 0 | 1 {
    return this.#step % 2 === 0 ? 0 : 1;
  }

  get #isNested(): boolean {
    return levelSizes(this.config).length > 1;
  }

  get #shown(): { readonly showsGradients: boolean } {
    return { showsGradients: this.options.showsGradients === true };
  }

  /**
   * The loss lambda mean (|f| - T)^2 and its factors of f and z. Where a length is 0 its gradient is 0, as in PyTorch.
   * @returns the loss
   */
  #pull(): number {
    const { activation, rows } = this;
    if (activation.kind !== "top-afa") return 0;
    const { batch } = this.config;
    const targets =
      activation.target === "centred" ? rows.lengths : this.#tensor("input_length").read(this.#inputLengths);
    let sum = 0;
    for (let row = 0; row < batch; row++) {
      const [length, target] = [Math.sqrt(rows.squares[row]!), targets[row]!];
      const difference = length - target;
      sum += difference * difference;
      const force = (2 * activation.lambda * difference) / batch;
      this.#pulls[row] = length > 0 ? force / length : 0;
      this.#targetPulls[row] = target > 0 ? force / target : 0;
    }
    this.#tensor(PULL).write(this.#pulls);
    this.#tensor(TARGET_PULL).write(this.#targetPulls);
    return (activation.lambda * sum) / batch;
  }

  #session(graph: ReturnType<typeof encodeGraph>): StepSession {
    return new StepSession(graph, { device: CPU, threads: this.options.threads }, this.#tensors, this.#state.sets);
  }

  #tensor(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`a step of ${this.activation.kind} has no ${name}`);
    return tensor;
  }

  #number(name: string): number {
    return this.#tensor(name).read(new Float32Array(1))[0] ?? Number.NaN;
  }

  /** What graphs read and write beside the state; rows lie where threads can reach them. */
  #bound(): Map<string, Tensor> {
    const { batch, dIn, dSae } = this.config;
    const { buffers } = this.#threads;
    const shared = (buffer: SharedArrayBuffer, shape: readonly number[]) =>
      Tensor.over(sharedMemory(buffer), 0, "float32", shape);
    const tensors = new Map<string, Tensor>([
      ["activations", shared(buffers.activations, [batch, dSae])],
      ["kept", shared(buffers.kept, [batch, dSae])],
      ["dead", shared(buffers.dead, [batch, dSae])],
      ["norms", shared(buffers.norms, [dSae, 1])],
      ["length", shared(buffers.lengths, [batch, 1])],
    ]);
    const own = (name: string, shape: readonly number[]) => tensors.set(name, Tensor.zeros("float32", shape));
    for (const name of ["x", "input", "centred"]) own(name, [batch, dIn]);
    for (const name of ["input_length", PULL, TARGET_PULL]) own(name, [batch, 1]);
    for (const name of [RATE, FLOOR, "mse", "inner", "variance", "aux"]) own(name, []);
    if (!this.options.showsGradients) return tensors;
    own(gradient("W_enc"), [dIn, dSae]);
    own(gradient("b_dec"), [dIn]);
    for (const name of [gradient("W_dec"), `${gradient("W_dec")}.unprojected`]) own(name, [dSae, dIn]);
    return tensors;
  }
}

/** Of what rows keep at least; 0 where none keeps anything. */
function smallest(least: Float32Array, counts: Int32Array): number {
  let found = Number.POSITIVE_INFINITY;
  for (let row = 0; row < least.length; row++) if (counts[row]! > 0) found = Math.min(found, least[row]!);
  return Number.isFinite(found) ? found : 0;
}
