import type { Device } from "../../runtime/ort/device.js";
import type { Tensor } from "../../runtime/ort/tensor.js";
import { type StepConfig, trainedWeights } from "./step-config.js";
import { first, second } from "./step-graph.js";

/** Weights and moments of an SAE in training, and what is counted of its features, as plain data. */
export interface TrainingState {
  /** Steps that were made. */
  readonly step: number;
  /** Weights, and as `m.` and `v.` their moments, by name. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  /** Batches since each feature was last active, [dSae]. */
  readonly idle: Uint32Array;
  /** Running mean of the smallest kept activation, of batch top-k; null before the first step. */
  readonly threshold: number | null;
}

/** Names and shapes of all tensors of a state. */
export function stateShapes(config: StepConfig): ReadonlyMap<string, readonly number[]> {
  return new Map(
    [...trainedWeights(config)].flatMap(([name, shape]) =>
      [name, first(name), second(name)].map((each) => [each, shape] as const),
    ),
  );
}

/** A state before the first step. */
export function newState(config: StepConfig, weights: ReadonlyMap<string, Float32Array>): TrainingState {
  const tensors = new Map(
    [...stateShapes(config)].map(([name, shape]) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const values = weights.get(name) ?? new Float32Array(size);
      if (values.length !== size) throw new RangeError(`${name} has ${values.length} values, not ${size}`);
      return [name, values] as const;
    }),
  );
  return { step: 0, tensors, idle: new Uint32Array(config.dSae), threshold: null };
}

/** The tensors of a state in turn: a step reads one set and writes the other. */
export class StateTensors implements Disposable {
  readonly sets: readonly [ReadonlyMap<string, Tensor>, ReadonlyMap<string, Tensor>];

  constructor(config: StepConfig, device: Device) {
    const shapes = stateShapes(config);
    const zeros = () => new Map([...shapes].map(([name, shape]) => [name, device.zeros("float32", shape)]));
    this.sets = [zeros(), zeros()];
  }

  write(set: 0 | 1, tensors: ReadonlyMap<string, Float32Array>): void {
    for (const [name, tensor] of this.sets[set]) {
      const values = tensors.get(name);
      if (values === undefined) throw new RangeError(`${name} is missing`);
      tensor.write(values);
    }
  }

  read(set: 0 | 1): Map<string, Float32Array> {
    return new Map([...this.sets[set]].map(([name, tensor]) => [name, tensor.read(new Float32Array(tensor.size))]));
  }

  [Symbol.dispose](): void {
    for (const set of this.sets) for (const tensor of set.values()) tensor[Symbol.dispose]();
  }
}
