import type { CompiledModel } from "../models/compile.js";
import { mapFile } from "./ort/mapped-file.js";
import { Tensor } from "./ort/tensor.js";

/** A model's weights as tensors over its mapped file, shared by all its graphs. */
export interface Weights extends Disposable {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly bytes: number;
  /** Gives back the memory of weights that sessions have packed copies of. */
  forgetPages(): void;
  /** Does so again and again, until it is disposed, while sessions are loaded. */
  forgetting(): Disposable;
}

/** @throws SetupError when the file is not as it was written. */
export function openWeights({ path, bytes, places }: CompiledModel["weights"]): Weights {
  const file = mapFile(path, bytes);
  const tensors = new Map(
    [...places].map(([name, { type, shape, offset }]) => [name, Tensor.over(file, offset, type, shape)]),
  );
  return {
    tensors,
    bytes,
    forgetPages: () => file.forgetPages(),
    forgetting: () => file.forgetting(),
    [Symbol.dispose]() {
      for (const tensor of tensors.values()) tensor[Symbol.dispose]();
      file[Symbol.dispose]();
    },
  };
}
