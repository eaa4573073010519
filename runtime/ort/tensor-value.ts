import type { Pointer } from "./api.js";
import { checkRoom } from "./available-memory.js";
import { type ElementType, elementBytes, onnxType } from "./elements.js";
import { library, made } from "./library.js";
import type { Memory } from "./memory.js";

/** A tensor as ONNX Runtime knows it (`OrtValue`), and where its elements lie. */
export interface TensorValue {
  readonly pointer: Pointer;
  readonly address: Pointer;
}

/** Elements in the host's memory, which ONNX Runtime allocates, of whatever lies there. @throws OrtError when there is no memory. */
export function allocateValue(type: ElementType, shape: readonly number[]): TensorValue {
  const { allocator } = library();
  const about = `allocating ${type}[${shape}]`;
  checkRoom(elementBytes(type, shape), about);
  const pointer = made(
    (api, out) => api.CreateTensorAsOrtValue(allocator, dims(shape), shape.length, onnxType(type), out),
    about,
  );
  const address = made((api, out) => api.GetTensorMutableData(pointer, out));
  return { pointer, address };
}

/** What lies at an address. @param memory left out: the host's */
export function valueAt(
  address: Pointer,
  type: ElementType,
  shape: readonly number[],
  memory: Memory | undefined,
): TensorValue {
  const info = memory?.info ?? library().cpuMemory;
  const bytes = elementBytes(type, shape);
  const pointer = made((api, out) =>
    api.CreateTensorWithDataAsOrtValue(info, address, bytes, dims(shape), shape.length, onnxType(type), out),
  );
  return { pointer, address };
}

/** Never empty: koffi must not be handed the address of an array without memory. */
const dims = (shape: readonly number[]): BigInt64Array => {
  const out = new BigInt64Array(Math.max(1, shape.length));
  for (const [i, n] of shape.entries()) out[i] = BigInt(n);
  return out;
};
