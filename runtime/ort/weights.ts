import type { CompiledModel } from "../../models/compile.js";
import { CPU, type Device } from "./device.js";
import { type MappedFile, mapFile } from "./mapped-file.js";
import type { Backing } from "./memory.js";
import { Tensor } from "./tensor.js";

/** A model's weights as tensors, over its mapped file or on a device, shared by all its graphs. */
export interface Weights extends Disposable {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly bytes: number;
  /** Gives back the memory of weights that sessions have packed copies of. */
  forgetPages(): void;
  /** Does so again and again, until it is disposed, while sessions are loaded. */
  forgetting(): Disposable;
}

/** @throws SetupError when the file is not as it was written; CudaError when the device has no room for them. */
export function openWeights({ path, bytes, places }: CompiledModel["weights"], device: Device = CPU): Weights {
  const file = mapFile(path, bytes);
  const memory = placed(device, file);
  const tensors = new Map(
    [...places].map(([name, { type, shape, offset }]) => [name, Tensor.over(memory, offset, type, shape)]),
  );
  return {
    tensors,
    bytes,
    forgetPages: () => file.forgetPages(),
    forgetting: () => file.forgetting(),
    [Symbol.dispose]() {
      for (const tensor of tensors.values()) tensor[Symbol.dispose]();
      memory[Symbol.dispose]();
      file[Symbol.dispose]();
    },
  };
}

function placed(device: Device, file: MappedFile): Backing & Disposable {
  try {
    return device.weights(file);
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}
