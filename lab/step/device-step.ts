import { allPlaces } from "../../models/sae/reading-cut.js";
import type { Device } from "../../runtime/ort/device.js";
import { Tensor } from "../../runtime/ort/tensor.js";
import { deviceCutGraph, IDLE, PLACES, TOLD, TOLD_NUMBERS } from "./device-cut-graph.js";
import { levelSizes } from "./nested-reconstructions.js";
import { StateTensors, type TrainingState } from "./sae-state.js";
import type { StepConfig, TrainedActivation } from "./step-config.js";
import { adamScalars, FLOOR, gradient, RATE, type StepGraph } from "./step-graph.js";
import { StepSession } from "./step-session.js";
import { followed, type StepRate, type StepResult, type TrainingStep } from "./training-step.js";
import { updateGraph } from "./update-graph.js";

export interface DeviceStepOptions {
  readonly device: Device;
  readonly threads: number;
  /** Places of top-AFA's cut that are looked through at first; default: 4,096, of which a GPU sorts no more at once. */
  readonly places?: number;
  /** For tests: gradients are kept, as `grad.<weight>`. */
  readonly showsGradients?: boolean;
}

const MOST_PLACES = 4096;
/** What an empty batch's smallest kept activation comes to is more. */
const LARGEST = 1e38;

/** A step of top-AFA, top-k or batch top-k whose rows stay on a device: the host is told a few numbers of each batch. */
export class DeviceStep implements TrainingStep {
  readonly #tensors = new Map<string, Tensor>();
  readonly #state: StateTensors;
  readonly #sets: readonly [ReadonlyMap<string, Tensor>, ReadonlyMap<string, Tensor>];
  readonly #cut: StepSession;
  readonly #update: StepSession;
  #updateDead: StepSession | undefined;
  #threshold: number | null;
  #step: number;

  constructor(
    readonly config: StepConfig,
    readonly activation: Exclude<TrainedActivation, { kind: "jumprelu" }>,
    state: TrainingState,
    readonly options: DeviceStepOptions,
  ) {
    const { device } = options;
    this.#state = new StateTensors(config, device);
    const idle = () => device.zeros("float32", [1, config.dSae]);
    const [one, other] = this.#state.sets;
    this.#sets = [new Map([...one, [IDLE, idle()]]), new Map([...other, [IDLE, idle()]])];
    this.#cut = this.#session(deviceCutGraph(config, activation));
    this.#update = this.#session(updateGraph(config, { dead: null, ...this.#shown }));
    this.#threshold = state.threshold;
    this.#step = state.step;
    this.#state.write(this.#set, state.tensors);
    this.#sets[this.#set].get(IDLE)?.write(state.idle);
  }

  get made(): number {
    return this.#step;
  }

  run(x: Float32Array, { learningRate }: StepRate): StepResult {
    const { config } = this;
    const { rate, floor } = adamScalars(config.adam, this.#step + 1, learningRate);
    this.#tensor("x").write(x);
    this.#tensor(RATE).write([rate]);
    this.#tensor(FLOOR).write([floor]);
    const { dead, afa, l0, leastKept } = this.#cutRows();
    if (dead > 0) this.#updateDead ??= this.#session(updateGraph(config, { dead: "mask", ...this.#shown }));
    (dead > 0 ? this.#updateDead : this.#update)?.run(this.#set);
    this.#step++;
    const [mse, variance, aux] = [this.#number("mse"), this.#number("variance"), dead > 0 ? this.#number("aux") : 0];
    const inner = this.#isNested ? this.#number("inner") : 0;
    if (this.activation.kind === "batch-topk" && leastKept > 0) this.#threshold = followed(this.#threshold, leastKept);
    return {
      ...{ mse, unexplained: mse / variance, inner, afa, aux, l0Loss: 0, total: mse + inner + afa + aux },
      ...{ l0, leastKept, dead },
    };
  }

  activations(x: Float32Array): Float32Array {
    this.#tensor("x").write(x);
    this.#cutAmong(this.#placesAtFirst);
    const tensor = this.#tensor("activations");
    return tensor.read(new Float32Array(tensor.size));
  }

  state(): TrainingState {
    const idle = this.#sets[this.#set].get(IDLE)?.read(new Float32Array(this.config.dSae)) ?? [];
    return {
      ...{ step: this.#step, tensors: this.#state.read(this.#set), threshold: this.#threshold },
      idle: Uint32Array.from(idle),
    };
  }

  gradient(weight: string): Float32Array {
    const tensor = this.#tensor(gradient(weight));
    return tensor.read(new Float32Array(tensor.size));
  }

  [Symbol.dispose](): void {
    const sessions = [this.#cut, this.#update, ...(this.#updateDead ? [this.#updateDead] : [])];
    const idle = this.#sets.flatMap((set) => set.get(IDLE) ?? []);
    for (const each of [...sessions, ...this.#tensors.values(), ...idle, this.#state]) each[Symbol.dispose]();
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

  get #placesAtFirst(): number {
    return Math.min(this.options.places ?? MOST_PLACES, allPlaces(this.config.dSae));
  }

  /** A batch whose cut lies beyond the first places is cut once more, among all. */
  #cutRows(): Told {
    const told = this.#cutAmong(this.#placesAtFirst);
    return told.unfinished > 0 ? this.#cutAmong(allPlaces(this.config.dSae)) : told;
  }

  #cutAmong(places: number): Told {
    this.#tensors.get(PLACES)?.write([places]);
    this.#cut.run(this.#set);
    const numbers = this.#tensor(TOLD).read(new Float32Array(TOLD_NUMBERS.length));
    const [dead = 0, unfinished = 0, afa = 0, l0 = 0, least = 0] = numbers;
    return { dead, unfinished, afa, l0, leastKept: least > LARGEST ? 0 : least };
  }

  /** Loads a graph; what it reads and writes beside the state is made where no other graph has it. */
  #session(graph: StepGraph): StepSession {
    const { device, threads } = this.options;
    const isState = (name: string) => this.#sets[0].has(name.replace(/^next\./, ""));
    for (const { name, type, shape, onHost } of [
      ...graph.signature.inputs.values(),
      ...graph.signature.outputs.values(),
    ]) {
      if (isState(name) || this.#tensors.has(name)) continue;
      const sizes = shape.map(Number);
      this.#tensors.set(name, onHost ? Tensor.zeros(type, sizes) : device.zeros(type, sizes));
    }
    return new StepSession(graph, { device, threads }, this.#tensors, this.#sets);
  }

  #tensor(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`a step of ${this.activation.kind} has no ${name}`);
    return tensor;
  }

  #number(name: string): number {
    return this.#tensor(name).read(new Float32Array(1))[0] ?? Number.NaN;
  }
}

/** What the host is told of a batch. */
type Told = Readonly<Record<(typeof TOLD_NUMBERS)[number], number>>;
