import { constants } from "node:buffer";
import koffi from "koffi";
import { halfPrecisionBytes } from "../../models/weights/half-precision.js";
import type { Pointer } from "./api.js";
import { copyMemory, zeroMemory } from "./c-library.js";
import {
  bytesOf,
  type Elements,
  type ElementType,
  elementBytes,
  elementCount,
  elementsIn,
  elementsOf,
  elementWidth,
  fillElements,
  isHalf,
  setElements,
  widen,
} from "./elements.js";
import { Handle } from "./handle.js";
import { library } from "./library.js";
import { type Backing, copyRows, type Memory, type Stretches } from "./memory.js";
import { allocateValue, type TensorValue, valueAt } from "./tensor-value.js";

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
    value: TensorValue,
    source?: Backing,
  ) {
    this.shape = [...shape];
    this.size = elementCount(shape);
    this.bytes = this.size * elementWidth(type);
    this.writable = source?.writable ?? true;
    this.#name = `tensor ${type}[${shape}]`;
    this.#address = value.address;
    this.#memory = source?.memory ?? null;
    this.#handle = new Handle(this.#name, value.pointer, (p) => {
      library().api.ReleaseValue(p);
      source?.letGo();
    });
  }

  /** A zeroed tensor in the host's memory, which ONNX Runtime allocates. @throws OrtError when there is no memory. */
  static zeros(type: ElementType, shape: readonly number[]): Tensor {
    const tensor = Tensor.untouched(type, shape);
    if (tensor.size > 0) tensor.fill(0);
    return tensor;
  }

  /**
   * The same of whatever lies there. The system gives memory when it is first written, which takes several times as long as
   * to copy something there.
   */
  static untouched(type: ElementType, shape: readonly number[]): Tensor {
    return new Tensor(type, shape, allocateValue(type, shape));
  }

  /** A tensor over memory that is not copied; `source` is held until the tensor is gone. */
  static over(source: Backing, byteOffset: number, type: ElementType, shape: readonly number[]): Tensor {
    const width = elementWidth(type);
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
      return new Tensor(type, shape, valueAt(address, type, shape, source.memory), source);
    } catch (error) {
      source.letGo();
      throw error;
    }
  }

  /** Another shape over part of this tensor's memory, from element `offset` on. Both may be bound at once. */
  alias(shape: readonly number[], offset = 0): Tensor {
    return Tensor.over(this.backing(), offset * elementWidth(this.type), this.type, shape);
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
    if (this.#memory !== null) this.#copyIn(this.#memory, values, offset);
    else setElements(this.#elements(), this.type, values, offset);
  }

  /** Copies `target.length` elements out, from element `offset` on; 16-bit floats become f32. */
  read(target: Float32Array, offset = 0): Float32Array {
    const { type } = this;
    this.#checkRange(offset, target.length);
    if (!isHalf(type) && type !== "float32") throw new TypeError(`${this.#name} cannot be read as float32`);
    this.#copyOut(isHalf(type) ? halfPrecisionBytes(target) : bytesOf(target), offset);
    if (isHalf(type)) widen(type, target);
    return target;
  }

  /** Copies elements out as they lie in memory, from element `offset` on, as many as fit into `target` exactly. */
  readBytes(target: Uint8Array, offset = 0): void {
    this.#checkRange(offset, target.length / elementWidth(this.type));
    if (target.length === 0) return;
    if (this.#memory === null) copyMemory(target, this.#addressOf(offset), target.length);
    else this.#copyOut(target, offset);
  }

  /** Copies elements in as `readBytes` gave them. */
  writeBytes(source: Uint8Array, offset = 0): void {
    this.#checkWrite(offset, source.length / elementWidth(this.type));
    if (source.length === 0) return;
    if (this.#memory === null) copyMemory(this.#addressOf(offset), source, source.length);
    else this.#memory.copyIn(this.#addressOf(offset), source, source.length);
  }

  /** Sets `count` elements from `offset` on to `value`. */
  fill(value: number, offset = 0, count = this.size - offset): void {
    this.#checkWrite(offset, count);
    if (Object.is(value, 0)) {
      const [address, bytes] = [this.#addressOf(offset), count * elementWidth(this.type)];
      if (this.#memory === null) zeroMemory(address, bytes);
      else if (count > 0) this.#memory.zero(address, bytes);
    } else if (this.#memory !== null) this.#copyIn(this.#memory, new Float32Array(count).fill(value), offset);
    else fillElements(this.#elements(), this.type, value, offset, offset + count);
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
    const width = elementWidth(this.type);
    const to = { memory: this.#memory, address: this.#addressOf(offset), pitch: stride * width };
    const from = { memory: source.#memory, address: source.#addressOf(sourceOffset), pitch: sourceStride * width };
    copyRows(to, from, length * width, count);
  }

  /**
   * Copies `count` stretches of `length` elements, `stride` apart, from element `source` on to element `target` on. For many
   * short ones in the host's memory it takes a fraction of the time of `copyStretches`.
   */
  moveStretches(count: number, length: number, stride: number, source: number, target: number): void {
    if (this.#memory !== null || this.bytes > constants.MAX_LENGTH) {
      this.copyStretches(this, { count, length, sourceOffset: source, sourceStride: stride, offset: target, stride });
      return;
    }
    this.#checkStretches(count, length, stride, source);
    this.#checkStretches(count, length, stride, target);
    const elements = this.#elements();
    for (let at = 0; at < count * stride; at += stride)
      elements.copyWithin(target + at, source + at, source + at + length);
  }

  /** Sums what a table of 256 entries says of each byte of such stretches of 8-bit integers, in the host's memory. */
  tally(table: Uint8Array, count: number, length: number, stride: number, source: number): number {
    this.#checkStretches(count, length, stride, source);
    if (this.#memory !== null || elementWidth(this.type) !== 1)
      throw new TypeError(`${this.#name} has no 8-bit integers in the host's memory`);
    const all = this.bytes > constants.MAX_LENGTH ? null : bytesOf(this.#elements());
    const copied = new Uint8Array(all === null ? length : 0);
    let sum = 0;
    for (let first = source; first < source + count * stride; first += stride) {
      if (all === null) this.readBytes(copied, first);
      const bytes = all?.subarray(first, first + length) ?? copied;
      for (let at = 0; at < length; at++) sum += table[bytes[at]!]!;
    }
    return sum;
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

  #addressOf(element: number): Pointer {
    return this.#address + BigInt(element * elementWidth(this.type));
  }

  #copyIn(memory: Memory, values: ArrayLike<number>, offset: number): void {
    const elements = elementsOf(this.type, values);
    if (values.length > 0) memory.copyIn(this.#addressOf(offset), bytesOf(elements), elements.byteLength);
  }

  #copyOut(target: Uint8Array, offset: number): void {
    if (target.length === 0) return;
    if (this.#memory === null) {
      const at = offset * elementWidth(this.type);
      target.set(bytesOf(this.#elements()).subarray(at, at + target.length));
      return;
    }
    this.#memory.copyOut(this.#addressOf(offset), target.length, (host, at, bytes) =>
      copyMemory(target.subarray(at, at + bytes), host, bytes),
    );
  }

  #checkRange(offset: number, count: number): void {
    void this.#handle.pointer;
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(count) && offset >= 0 && count >= 0;
    if (!inside || offset + count > this.size) {
      throw new RangeError(`elements ${offset} to ${offset + count} are not all in ${this.#name}`);
    }
  }

  #checkStretches(count: number, length: number, stride: number, first: number): void {
    if (count < 1 || length > stride)
      throw new RangeError(`${count} stretches of ${length} do not stand ${stride} apart`);
    this.#checkWrite(first, (count - 1) * stride + length);
  }

  #checkWrite(offset: number, count: number): void {
    this.#checkRange(offset, count);
    if (!this.writable) throw new TypeError(`${this.#name} is read-only`);
  }

  #elements(): Elements {
    if (this.bytes > constants.MAX_LENGTH) throw new RangeError(`${this.#name} is too large for an array`);
    // One view for the tensor's life: each koffi.view is finalised only in a later turn of the event loop.
    this.#view ??= elementsIn(this.type, this.size === 0 ? new ArrayBuffer(0) : koffi.view(this.#address, this.bytes));
    return this.#view;
  }
}
