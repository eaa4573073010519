import { GraphBuilder, type GraphSignature, type Value } from "../../models/onnx/graph.js";
import { type AdamConfig, type StepConfig, trainedWeights } from "./step-config.js";

/** Learning rate and bias corrections of Adam, as `adamScalars` makes them of a step's number. */
export const RATE = "rate";
export const FLOOR = "floor";
/** Moments of a weight, and what a step makes of a tensor. */
export const first = (weight: string): string => `m.${weight}`;
export const second = (weight: string): string => `v.${weight}`;
export const next = (tensor: string): string => `next.${tensor}`;
export const gradient = (weight: string): string => `grad.${weight}`;

/** A graph of the step, ready to be loaded. */
export interface StepGraph {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly signature: GraphSignature;
}

/** One of the graphs of a training step being written: rows are [batch, ...], features [batch, dSae], in float32. */
export class StepGraphBuilder {
  readonly graph = new GraphBuilder();

  constructor(
    readonly config: StepConfig,
    /** Gradients are outputs, too. */
    readonly showsGradients: boolean,
  ) {}

  input(name: string, shape: readonly number[]): Value {
    return this.graph.input(name, "float32", shape);
  }

  /** Makes a value an output under this name. */
  output(name: string, value: Value, shape: readonly number[]): void {
    this.graph.op("Identity", [value], {}, name);
    this.graph.output(name, "float32", shape);
  }

  number(value: number): Value {
    return this.graph.constant("float32", [], [value]);
  }

  times(value: Value, factor: Value | number): Value {
    return this.graph.op("Mul", [value, typeof factor === "number" ? this.number(factor) : factor]);
  }

  plus(a: Value, b: Value | number): Value {
    return this.graph.op("Add", [a, typeof b === "number" ? this.number(b) : b]);
  }

  minus(a: Value, b: Value): Value {
    return this.graph.op("Sub", [a, b]);
  }

  /** a b + c; `transposed`: which of the two factors are. */
  product(a: Value, b: Value, { c, transposed }: { c?: Value; transposed?: "a" | "b" } = {}): Value {
    const attributes = transposed === undefined ? {} : { [transposed === "a" ? "transA" : "transB"]: 1 };
    return this.graph.op("Gemm", c === undefined ? [a, b] : [a, b, c], attributes);
  }

  /** Over rows (0) or within each (1); the axis stays, of size 1. */
  sum(value: Value, axis: 0 | 1): Value {
    return this.graph.op("ReduceSum", [value, this.graph.constant("int64", [1], [axis])], { keepdims: 1 });
  }

  /** Squared lengths of rows, [rows, 1]. */
  squares(value: Value): Value {
    return this.graph.op("ReduceSumSquare", [value, this.graph.constant("int64", [1], [1])], { keepdims: 1 });
  }

  /** Lengths of rows, [rows, 1]. */
  lengths(value: Value): Value {
    return this.graph.op("Sqrt", [this.squares(value)]);
  }

  /** Mean of all squares, []. */
  meanSquare(value: Value): Value {
    return this.graph.op("ReduceMean", [this.graph.op("Mul", [value, value])], { keepdims: 0 });
  }

  /** 1 where a value is above a limit, else 0. */
  above(value: Value, limit: Value | number): Value {
    const compared = typeof limit === "number" ? this.number(limit) : limit;
    return this.graph.cast(this.graph.op("Greater", [value, compared]), "float32");
  }

  /**
   * The input of an encoder: x normalised, and that less b_dec.
   * @returns both, [batch, dIn]
   */
  encoderInput(): { readonly input: Value; readonly centred: Value } {
    const { dIn, batch, normalisation } = this.config;
    const x = this.input("x", [batch, dIn]);
    const input = normalisation === "layer_norm" ? this.#layerNorm(x) : x;
    return { input, centred: this.minus(input, this.input("b_dec", [dIn])) };
  }

  /** Adds what Adam makes of the gradients: the moments, and the weights that follow. @param bases what a step is taken from */
  adam(gradients: ReadonlyMap<string, Value>, bases: ReadonlyMap<string, Value> = new Map()): void {
    const { beta1, beta2 } = this.config.adam;
    const rate = this.input(RATE, []);
    const floor = this.input(FLOOR, []);
    const shapes = trainedWeights(this.config);
    for (const [name, taken] of gradients) {
      const shape = shapes.get(name) ?? [];
      const [m, v] = [this.input(first(name), shape), this.input(second(name), shape)];
      const nextM = this.plus(this.times(m, beta1), this.times(taken, 1 - beta1));
      const nextV = this.plus(this.times(v, beta2), this.times(this.times(taken, taken), 1 - beta2));
      const size = this.plus(this.times(this.graph.op("Sqrt", [nextV]), rate), floor);
      this.output(next(name), this.minus(bases.get(name) ?? name, this.graph.op("Div", [nextM, size])), shape);
      this.output(next(first(name)), nextM, shape);
      this.output(next(second(name)), nextV, shape);
      if (this.showsGradients) this.output(gradient(name), taken, shape);
    }
  }

  finish(name: string): StepGraph {
    return { name, bytes: this.graph.serialize(name), signature: this.graph.signature };
  }

  #layerNorm(x: Value): Value {
    const { graph } = this;
    const mean = graph.op("ReduceMean", [x, graph.constant("int64", [1], [1])], { keepdims: 1 });
    const offset = this.minus(x, mean);
    const variance = this.times(this.squares(offset), 1 / (this.config.dIn - 1));
    return graph.op("Div", [offset, this.plus(graph.op("Sqrt", [variance]), 1e-5)]);
  }
}

/**
 * Adam's step lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon) is computed as m / (sqrt(v) rate + floor).
 * @param step its number t, from 1
 */
export function adamScalars({ beta1, beta2, epsilon }: AdamConfig, step: number, learningRate: number) {
  const scale = learningRate / (1 - beta1 ** step);
  return { rate: 1 / Math.sqrt(1 - beta2 ** step) / scale, floor: epsilon / scale };
}
