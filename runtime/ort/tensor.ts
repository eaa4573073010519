import koffi from "koffi";
import type { Pointer } from "./api.js";
import { Handle } from "./handle.js";
import { library, made } from "./library.js";

const ELEMENT = {
  float32: { onnx: 1, bytes: 4, array: Float32Array },
  uint8: { onnx: 2, bytes: 1, array: Uint8Array },
  int32: { onnx: 6, bytes: 4, array: Int32Array },
  int64: { onnx: 7, bytes: 8, array: BigInt64Array },
  bool: { onnx: 9, bytes: 1, array: Uint8Array },
} as const;

export type ElementType = keyof typeof ELEMENT;
type Elements = Float32Array | Uint8Array | Int32Array | BigInt64Array;

/** Memory that outlives a tensor made over it. */
export interface Backing {
  readonly address: Pointer;
  readonly bytes: number;
  hold(): void;
  letGo(): void;
}

/**
 * A dense tensor in host memory that ONNX Runtime reads and writes in place. Its contents are copied in and out; a view
 * of native memory never leaves this class, so nothing can touch it after `Symbol.dispose`.
 */
export class Tensor implements Disposable {
  readonly #handle: Handle;
  readonly #address: Pointer;
  #view: Elements | undefined;

  private constructor(
    readonly type: ElementType,
    readonly shape: readonly number[],
    pointer: Pointer,
    source: Backing | undefined,
  ) {
    const { api } = library();
    this.#handle = new Handle(`tensor ${type}[${shape}]`, pointer, (p) => {
      api.ReleaseValue(p);
      source?.letGo();
    });
    this.#address = made((a, out) => a.GetTensorMutableData(pointer, out));
  }

  /** A zeroed tensor that ONNX Runtime allocates. @throws OrtError when there is no memory. */
  static zeros(type: ElementType, shape: readonly number[]): Tensor {
    const { allocator } = library();
    checkShape(shape);
    const pointer = made(
      (api, out) => api.CreateTensorAsOrtValue(allocator, dims(shape), shape.length, ELEMENT[type].onnx, out),
      `allocating ${type}[${shape}]`,
    );
    const tensor = new Tensor(type, shape, pointer, undefined);
    if (tensor.size > 0) tensor.fill(0);
    return tensor;
  }

  /** A tensor over memory that is not copied; `source` is held until the tensor is gone. */
  static over(source: Backing, byteOffset: number, type: ElementType, shape: readonly number[]): Tensor {
    checkShape(shape);
    const bytes = product(shape) * ELEMENT[type].bytes;
    if (byteOffset < 0 || byteOffset + bytes > source.bytes) {
      throw new RangeError(`${type}[${shape}] at byte ${byteOffset} does not fit into ${source.bytes} bytes`);
    }
    source.hold();
    try {
      return new Tensor(type, shape, wrap(source.address + BigInt(byteOffset), bytes, type, shape), source);
    } catch (error) {
      source.letGo();
      throw error;
    }
  }

  /** Another shape over part of this tensor's memory, from element `offset` on. Both may be bound at once. */
  alias(shape: readonly number[], offset = 0): Tensor {
    return Tensor.over(this.backing(), offset * ELEMENT[this.type].bytes, this.type, shape);
  }

  /** Number of elements. */
  get size(): number {
    return product(this.shape);
  }

  get bytes(): number {
    return this.size * ELEMENT[this.type].bytes;
  }

  get pointer(): Pointer {
    return this.#handle.pointer;
  }

  /** Keeps the memory while something native uses it. */
  hold(): void {
    this.#handle.hold();
  }

  letGo(): void {
    this.#handle.letGo();
  }

  /** Copies `values` in, from element `offset` on. */
  write(values: ArrayLike<number> | ArrayLike<bigint>, offset = 0): void {
    const view = this.#elements();
    if (view instanceof BigInt64Array) for (let i = 0; i < values.length; i++) view[offset + i] = BigInt(values[i] ?? 0);
    else view.set(Array.isArray(values) || ArrayBuffer.isView(values) ? (values as ArrayLike<number>) : Array.from(values, Number), offset);
  }

  /** Copies `target.length` elements out, from element `offset` on. */
  read(target: Float32Array, offset = 0): Float32Array {
    const view = this.#elements();
    if (!(view instanceof Float32Array)) throw new TypeError(`a ${this.type} tensor cannot be read as float32`);
    target.set(view.subarray(offset, offset + target.length));
    return target;
  }

  /** Sets `count` elements from `offset` on to `value`. */
  fill(value: number, offset = 0, count = this.size - offset): void {
    const view = this.#elements();
    if (view instanceof BigInt64Array) view.fill(BigInt(value), offset, offset + count);
    else view.fill(value, offset, offset + count);
  }

  /** Copies `count` elements from another tensor of the same type. */
  copyFrom(source: Tensor, sourceOffset: number, offset: number, count: number): void {
    const from = source.#elements();
    const to = this.#elements();
    if (from instanceof BigInt64Array || to instanceof BigInt64Array) throw new TypeError("int64 tensors are not copied");
    to.set(from.subarray(sourceOffset, sourceOffset + count), offset);
  }

  [Symbol.dispose](): void {
    this.#view = undefined;
    this.#handle[Symbol.dispose]();
  }

  backing(): Backing {
    return { address: this.#address, bytes: this.bytes, hold: () => this.hold(), letGo: () => this.letGo() };
  }

  #elements(): Elements {
    void this.#handle.pointer;
    // One view for the tensor's life: each koffi.view is finalised only in a later turn of the event loop.
    this.#view ??= new ELEMENT[this.type].array(this.size === 0 ? new ArrayBuffer(0) : koffi.view(this.#address, this.bytes));
    return this.#view;
  }
}

function wrap(address: Pointer, bytes: number, type: ElementType, shape: readonly number[]): Pointer {
  const { cpuMemory } = library();
  return made((api, out) =>
    api.CreateTensorWithDataAsOrtValue(cpuMemory, address, bytes, dims(shape), shape.length, ELEMENT[type].onnx, out),
  );
}

function checkShape(shape: readonly number[]): void {
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0) || !Number.isSafeInteger(product(shape) * 8)) {
    throw new RangeError(`[${shape}] is no tensor shape`);
  }
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Never empty: koffi must not be handed the address of an array without memory. */
const dims = (shape: readonly number[]): BigInt64Array => {
  const out = new BigInt64Array(Math.max(16, shape.length));
  for (const [i, n] of shape.entries()) out[i] = BigInt(n);
  return out;
};
