import { constants } from "node:buffer";
import koffi from "koffi";
import { halfPrecisionBytes, narrowBF16, narrowF16, widenBF16, widenF16 } from "../../models/weights/half-precision.js";
import type { Pointer } from "./api.js";
import { roomFor } from "./available-memory.js";
import { copyMemory, zeroMemory } from "./c-library.js";
import { Handle, type Holdable } from "./handle.js";
import { library, made, OrtError } from "./library.js";

const ELEMENT = {
  float32: { onnx: 1, bytes: 4, array: Float32Array },
  uint8: { onnx: 2, bytes: 1, array: Uint8Array },
  int32: { onnx: 6, bytes: 4, array: Int32Array },
  int64: { onnx: 7, bytes: 8, array: BigInt64Array },
  bool: { onnx: 9, bytes: 1, array: Uint8Array },
  float16: { onnx: 10, bytes: 2, array: Uint16Array },
  bfloat16: { onnx: 16, bytes: 2, array: Uint16Array },
} as const;

/** Types that JavaScript has no numbers for: they go in rounded to nearest even, and come out as f32. */
const HALF = {
  float16: { narrow: narrowF16, widen: widenF16 },
  bfloat16: { narrow: narrowBF16, widen: widenBF16 },
} as const;

export type ElementType = keyof typeof ELEMENT;
type Elements = Float32Array | Uint8Array | Uint16Array | Int32Array | BigInt64Array;

/** ONNX Runtime's code for an allocation that failed (ORT_RUNTIME_EXCEPTION). */
const NO_MEMORY = 6;

/** Rows of bytes that stand `pitch` bytes apart. */
export interface Rows {
  readonly address: Pointer;
  readonly pitch: number;
}

/** Memory that the host cannot touch: how bytes get there, and from there. */
export interface Memory {
  /** `OrtMemoryInfo` of tensors in it. */
  readonly info: Pointer;
  zero(address: Pointer, bytes: number): void;
  copy(to: Pointer, from: Pointer, bytes: number): void;
  /** Copies `height` rows of `width` bytes. */
  copyRows(to: Rows, from: Rows, width: number, height: number): void;
  copyIn(to: Pointer, from: Pointer | Uint8Array, bytes: number): void;
  /** @param receive is given host memory that holds bytes [at, at + bytes) of what is copied, piece by piece */
  copyOut(from: Pointer, bytes: number, receive: (host: Pointer, at: number, bytes: number) => void): void;
}

/** Memory that outlives a tensor made over it. */
export interface Backing extends Holdable {
  readonly address: Pointer;
  readonly bytes: number;
  /** Where it is not, writing would end the process. */
  readonly writable: boolean;
  /** Left out: the host's. */
  readonly memory?: Memory | undefined;
}

/** `count` stretches of `length` elements, those of the source and of the target each their own number of elements apart. */
export interface Stretches {
  readonly count: number;
  readonly length: number;
  readonly sourceOffset: number;
  readonly sourceStride: number;
  readonly offset: number;
  readonly stride: number;
}

/**
 * A dense tensor that ONNX Runtime reads and writes in place, in the host's memory or a device's. Its contents are copied
 * in and out; a view of native memory never leaves this class, so nothing can touch it after `Symbol.dispose`.
 */
export class Tensor implements Disposable {
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;
  readonly bytes: number;
  readonly writable: boolean;
  readonly #name: string;
  readonly #handle: Handle;
  readonly #address: Pointer;
  /** null: the host's. */
  readonly #memory: Memory | null;
  #view: Elements | undefined;

  private constructor(
    readonly type: ElementType,
    shape: readonly number[],
    native: { readonly pointer: Pointer; readonly address: Pointer },
    source?: Backing,
  ) {
    this.shape = [...shape];
    this.size = product(shape);
    this.bytes = this.size * ELEMENT[type].bytes;
    this.writable = source?.writable ?? true;
    this.#name = `tensor ${type}[${shape}]`;
    this.#address = native.address;
    this.#memory = source?.memory ?? null;
    this.#handle = new Handle(this.#name, native.pointer, (p) => {
      library().api.ReleaseValue(p);
      source?.letGo();
    });
  }

  /** A zeroed tensor in the host's memory, which ONNX Runtime allocates. @throws OrtError when there is no memory. */
  static zeros(type: ElementType, shape: readonly number[]): Tensor {
    const { allocator } = library();
    const about = `allocating ${type}[${shape}]`;
    const bytes = elementBytes(type, shape);
    if (!roomFor(bytes)) throw new OrtError(NO_MEMORY, `${about}: the machine has no ${bytes} bytes left`);
    const pointer = made(
      (api, out) => api.CreateTensorAsOrtValue(allocator, dims(shape), shape.length, ELEMENT[type].onnx, out),
      about,
    );
    const address = made((api, out) => api.GetTensorMutableData(pointer, out));
    if (bytes > 0) zeroMemory(address, bytes);
    return new Tensor(type, shape, { pointer, address });
  }

  /** A tensor over memory that is not copied; `source` is held until the tensor is gone. */
  static over(source: Backing, byteOffset: number, type: ElementType, shape: readonly number[]): Tensor {
    const width = ELEMENT[type].bytes;
    const bytes = elementBytes(type, shape);
    if (!(Number.isSafeInteger(byteOffset) && byteOffset >= 0 && byteOffset + bytes <= source.bytes)) {
      throw new RangeError(`${type}[${shape}] at byte ${byteOffset} does not fit into ${source.bytes} bytes`);
    }
    const address = source.address + BigInt(byteOffset);
    if (address % BigInt(width) !== 0n) {
      throw new RangeError(`${type}[${shape}] at byte ${byteOffset} does not begin at a multiple of ${width} bytes`);
    }
    source.hold();
    try {
      return new Tensor(type, shape, { pointer: wrap(address, bytes, type, shape, source.memory), address }, source);
    } catch (error) {
      source.letGo();
      throw error;
    }
  }

  /** Another shape over part of this tensor's memory, from element `offset` on. Both may be bound at once. */
  alias(shape: readonly number[], offset = 0): Tensor {
    return Tensor.over(this.backing(), offset * ELEMENT[this.type].bytes, this.type, shape);
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

  /** Copies `values` in, from element `offset` on; integers where the tensor's are, rounded where it has 16-bit floats. */
  write(values: ArrayLike<number>, offset = 0): void {
    this.#checkWrite(offset, values.length);
    if (this.#memory !== null) {
      this.#copyIn(this.#memory, values, offset);
      return;
    }
    const view = this.#elements();
    if (view instanceof BigInt64Array) view.set(Array.from(values, BigInt), offset);
    else if (view instanceof Uint16Array) view.set(this.#narrowed(values), offset);
    else view.set(values, offset);
  }

  /** Copies `target.length` elements out, from element `offset` on; 16-bit floats become f32. */
  read(target: Float32Array, offset = 0): Float32Array {
    this.#checkRange(offset, target.length);
    const half = this.type === "float16" || this.type === "bfloat16" ? HALF[this.type] : null;
    if (half === null && this.type !== "float32") throw new TypeError(`${this.#name} cannot be read as float32`);
    this.#copyOut(half === null ? bytesOf(target) : halfPrecisionBytes(target), offset);
    half?.widen(target);
    return target;
  }

  /** Copies `target.length` integers out, from element `offset` on. */
  readIntegers(target: Int32Array, offset = 0): Int32Array {
    this.#checkRange(offset, target.length);
    if (this.type !== "int32") throw new TypeError(`${this.#name} cannot be read as int32`);
    this.#copyOut(bytesOf(target), offset);
    return target;
  }

  /** Sets `count` elements from `offset` on to `value`. */
  fill(value: number, offset = 0, count = this.size - offset): void {
    this.#checkWrite(offset, count);
    const width = ELEMENT[this.type].bytes;
    if (Object.is(value, 0)) {
      const address = this.#address + BigInt(offset * width);
      if (this.#memory === null) zeroMemory(address, count * width);
      else if (count > 0) this.#memory.zero(address, count * width);
      return;
    }
    if (this.#memory !== null) {
      this.#copyIn(this.#memory, new Float32Array(count).fill(value), offset);
      return;
    }
    const view = this.#elements();
    if (view instanceof BigInt64Array) view.fill(BigInt(value), offset, offset + count);
    else if (view instanceof Uint16Array) view.fill(this.#narrowed([value])[0]!, offset, offset + count);
    else view.fill(value, offset, offset + count);
  }

  /** Copies `count` elements from another tensor of the same type; the two may share memory. */
  copyFrom(source: Tensor, sourceOffset: number, offset: number, count: number): void {
    this.copyStretches(source, { count: 1, length: count, sourceOffset, sourceStride: 0, offset, stride: 0 });
  }

  /**
   * Copies stretches of elements from another tensor of the same type; where there are several, the two must not share what
   * is copied.
   */
  copyStretches(source: Tensor, stretches: Stretches): void {
    const { count, length, sourceOffset, sourceStride, offset, stride } = stretches;
    if (source.type !== this.type) throw new TypeError(`${source.#name} cannot be copied to ${this.#name}`);
    if (count === 0 || length === 0) return;
    for (const last of [0, count - 1]) {
      source.#checkRange(sourceOffset + last * sourceStride, length);
      this.#checkWrite(offset + last * stride, length);
    }
    const { bytes: width } = ELEMENT[this.type];
    const from = source.#address + BigInt(sourceOffset * width);
    const to = this.#address + BigInt(offset * width);
    if (count > 1 && this.#memory !== null && source.#memory !== null) {
      const rows = { to: { address: to, pitch: stride * width }, from: { address: from, pitch: sourceStride * width } };
      this.#memory.copyRows(rows.to, rows.from, length * width, count);
      return;
    }
    for (let i = 0; i < count; i++)
      this.#copyBytes(
        source.#memory,
        from + BigInt(i * sourceStride * width),
        to + BigInt(i * stride * width),
        length * width,
      );
  }

  [Symbol.dispose](): void {
    this.#view = undefined;
    this.#handle[Symbol.dispose]();
  }

  backing(): Backing {
    return {
      address: this.#address,
      bytes: this.bytes,
      writable: this.writable,
      memory: this.#memory ?? undefined,
      hold: () => this.hold(),
      letGo: () => this.letGo(),
    };
  }

  #copyBytes(source: Memory | null, from: Pointer, to: Pointer, bytes: number): void {
    if (this.#memory === null && source === null) copyMemory(to, from, bytes);
    else if (this.#memory === null)
      source?.copyOut(from, bytes, (host, at, length) => copyMemory(to + BigInt(at), host, length));
    else if (source === null) this.#memory.copyIn(to, from, bytes);
    else this.#memory.copy(to, from, bytes);
  }

  #copyIn(memory: Memory, values: ArrayLike<number>, offset: number): void {
    const elements = this.#inOwnType(values);
    if (values.length === 0) return;
    const at = offset * ELEMENT[this.type].bytes;
    memory.copyIn(this.#address + BigInt(at), bytesOf(elements), elements.byteLength);
  }

  #inOwnType(values: ArrayLike<number>): Elements {
    if (this.type === "float16" || this.type === "bfloat16") return this.#narrowed(values);
    if (this.type === "int64") return BigInt64Array.from(Array.from(values, BigInt));
    const { array } = ELEMENT[this.type];
    return values instanceof array ? values : array.from(values);
  }

  #copyOut(target: Uint8Array, offset: number): void {
    if (target.length === 0) return;
    const { bytes: width } = ELEMENT[this.type];
    if (this.#memory === null) {
      target.set(bytesOf(this.#elements()).subarray(offset * width, offset * width + target.length));
      return;
    }
    const from = this.#address + BigInt(offset * width);
    this.#memory.copyOut(from, target.length, (host, at, bytes) =>
      copyMemory(target.subarray(at, at + bytes), host, bytes),
    );
  }

  #narrowed(values: ArrayLike<number>): Uint16Array {
    if (this.type !== "float16" && this.type !== "bfloat16") throw new TypeError(`${this.#name} has no 16-bit floats`);
    const halves = new Uint16Array(values.length);
    HALF[this.type].narrow(values instanceof Float32Array ? values : Float32Array.from(values), halves);
    return halves;
  }

  #checkRange(offset: number, count: number): void {
    void this.#handle.pointer;
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(count) && offset >= 0 && count >= 0;
    if (!inside || offset + count > this.size) {
      throw new RangeError(`elements ${offset} to ${offset + count} are not all in ${this.#name}`);
    }
  }

  #checkWrite(offset: number, count: number): void {
    this.#checkRange(offset, count);
    if (!this.writable) throw new TypeError(`${this.#name} is read-only`);
  }

  #elements(): Elements {
    if (this.bytes > constants.MAX_LENGTH) throw new RangeError(`${this.#name} is too large for an array`);
    // One view for the tensor's life: each koffi.view is finalised only in a later turn of the event loop.
    this.#view ??= new ELEMENT[this.type].array(
      this.size === 0 ? new ArrayBuffer(0) : koffi.view(this.#address, this.bytes),
    );
    return this.#view;
  }
}

function wrap(
  address: Pointer,
  bytes: number,
  type: ElementType,
  shape: readonly number[],
  memory: Memory | undefined,
): Pointer {
  const info = memory?.info ?? library().cpuMemory;
  return made((api, out) =>
    api.CreateTensorWithDataAsOrtValue(info, address, bytes, dims(shape), shape.length, ELEMENT[type].onnx, out),
  );
}

/** Bytes of a tensor. @throws RangeError where that is no shape. */
export function elementBytes(type: ElementType, shape: readonly number[]): number {
  checkShape(shape);
  return product(shape) * ELEMENT[type].bytes;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Elements): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

function checkShape(shape: readonly number[]): void {
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0) || !Number.isSafeInteger(product(shape) * 8)) {
    throw new RangeError(`[${shape}] is no tensor shape`);
  }
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Never empty: koffi must not be handed the address of an array without memory. */
const dims = (shape: readonly number[]): BigInt64Array => {
  const out = new BigInt64Array(Math.max(1, shape.length));
  for (const [i, n] of shape.entries()) out[i] = BigInt(n);
  return out;
};
