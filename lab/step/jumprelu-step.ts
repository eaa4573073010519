import { CPU, type Device } from "../../runtime/ort/device.js";
import type { Tensor } from "../../runtime/ort/tensor.js";
import { jumpreluGraph, L0_COEFFICIENT } from "./jumprelu-graph.js";
import { StateTensors, type TrainingState } from "./sae-state.js";
import type { StepConfig } from "./step-config.js";
import { adamScalars, FLOOR, gradient, RATE } from "./step-graph.js";
import { StepSession } from "./step-session.js";
import { countIdle, type StepRate, type StepResult, type TrainingStep } from "./training-step.js";

export interface JumpreluOptions {
  readonly threads: number;
  readonly device?: Device;
  /** For tests: gradients are kept, as `grad.<weight>`. */
  readonly showsGradients?: boolean;
}

/** A step of jumprelu: one graph, on any device. */
export class JumpreluStep implements TrainingStep {
  readonly #tensors: ReadonlyMap<string, Tensor>;
  readonly #state: StateTensors;
  readonly #session: StepSession;
  readonly #idle: Uint32Array;
  readonly #active: Float32Array;
  readonly #dead: Uint32Array;
  #step: number;

  constructor(
    readonly config: StepConfig,
    readonly l0Coefficient: number,
    state: TrainingState,
    { threads, device = CPU, showsGradients = false }: JumpreluOptions,
  ) {
    const graph = jumpreluGraph(config, showsGradients);
    this.#state = new StateTensors(config, device);
    const known = new Set(this.#state.sets[0].keys());
    const { inputs, outputs } = graph.signature;
    const specs = [...inputs.values(), ...outputs.values()].filter(
      ({ name }) => !known.has(name) && !known.has(name.replace(/^next\./, "")),
    );
    this.#tensors = new Map(specs.map(({ name, shape }) => [name, device.zeros("float32", shape.map(Number))]));
    this.#session = new StepSession(graph, { device, threads }, this.#tensors, this.#state.sets);
    this.#idle = Uint32Array.from(state.idle);
    this.#active = new Float32Array(config.dSae);
    this.#dead = new Uint32Array(config.dSae);
    this.#step = state.step;
    this.#state.write(this.#set, state.tensors);
  }

  run(x: Float32Array, { learningRate, sparsity = 1 }: StepRate): StepResult {
    const { config } = this;
    const { rate, floor } = adamScalars(config.adam, this.#step + 1, learningRate);
    const coefficient = this.l0Coefficient * sparsity;
    this.#tensor("x").write(x);
    this.#tensor(RATE).write([rate]);
    this.#tensor(FLOOR).write([floor]);
    this.#tensor(L0_COEFFICIENT).write([coefficient]);
    this.#session.run(this.#set);
    this.#step++;
    const active = this.#tensor("active").read(this.#active);
    const dead = countIdle(this.#idle, active, config.dead.after, this.#dead);
    const [mse, variance] = [this.#number("mse"), this.#number("variance")];
    const l0 = active.reduce((sum, count) => sum + count, 0) / config.batch;
    const l0Loss = coefficient * l0;
    return {
      ...{ mse, unexplained: mse / variance, inner: 0, afa: 0, aux: 0, l0Loss, total: mse * config.dIn + l0Loss },
      ...{ l0, leastKept: 0, dead },
    };
  }

  get made(): number {
    return this.#step;
  }

  state(): TrainingState {
    const tensors = this.#state.read(this.#set);
    return { step: this.#step, tensors, idle: Uint32Array.from(this.#idle), threshold: null };
  }

  /** For tests: a gradient of the last step, where they are kept. */
  gradient(weight: string): Float32Array {
    const tensor = this.#tensor(gradient(weight));
    return tensor.read(new Float32Array(tensor.size));
  }

  /** Length of the last step's gradients together, before they were clipped; null where they are not. */
  get gradientLength(): number | null {
    return this.config.adam.clip === null ? null : this.#number("gradient_length");
  }

  [Symbol.dispose](): void {
    for (const each of [this.#session, ...this.#tensors.values(), this.#state]) each[Symbol.dispose]();
  }

  /** Of the state that the next step reads. */
  get #set(): 0 | 1 {
    return this.#step % 2 === 0 ? 0 : 1;
  }

  #tensor(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`a step of jumprelu has no ${name}`);
    return tensor;
  }

  #number(name: string): number {
    return this.#tensor(name).read(new Float32Array(1))[0] ?? Number.NaN;
  }
}
