import type { Device } from "../ort/device.js";
import { type ElementType, elementWidth } from "../ort/elements.js";
import type { Tensor } from "../ort/tensor.js";

/** In the host's memory a buffer has room for so many times its elements. */
const ROOM = 4;

/** A buffer that is about to be another tensor: `settle` makes it so and cannot fail, `discard` leaves it as it is. */
export interface Resizing {
  /** @param rows which are kept; slots that they did not have are zeros, and other rows hold anything */
  settle(rows: number): void;
  discard(): void;
}

/**
 * A tensor [rows, heads, slots, width] that becomes larger and smaller. In the host's memory it grows where it lies, as
 * long as there is room behind it: room takes no memory until it is written, and to write memory for the first time takes
 * several times as long as to move rows apart.
 */
export class RowBuffer implements Disposable {
  #tensor: Tensor | null = null;
  #room: Tensor | null = null;

  constructor(
    readonly device: Device,
    readonly type: ElementType,
  ) {}

  get tensor(): Tensor {
    if (this.#tensor === null) throw new RangeError("a buffer without rows has no tensor");
    return this.#tensor;
  }

  /** Bytes that it takes to give the buffer this shape: those that are added where it stays, all where it is copied. */
  bytesToResize(shape: readonly number[]): number {
    // Also of what is no tensor any more, because it is too large.
    const bytes = sizeOf(shape) * elementWidth(this.type);
    return this.#roomToStay(shape) === null ? bytes : bytes - this.tensor.bytes;
  }

  /** @throws OrtError or CudaError when there is no memory. */
  resize(shape: readonly number[]): Resizing {
    const [old, oldRoom] = [this.#tensor, this.#room];
    const roomToStay = this.#roomToStay(shape);
    const stays = roomToStay !== null;
    const room = roomToStay ?? this.#allocate(sizeOf(shape));
    const discardRoom = () => {
      if (!stays) room[Symbol.dispose]();
    };
    let tensor: Tensor;
    try {
      tensor = room.alias(shape);
    } catch (error) {
      discardRoom();
      throw error;
    }
    return {
      settle: (rows) => {
        if (old !== null && !(stays && old.shape[2] === tensor.shape[2])) this.#move(old, tensor, rows);
        old?.[Symbol.dispose]();
        if (!stays) oldRoom?.[Symbol.dispose]();
        [this.#tensor, this.#room] = [tensor, room];
      },
      discard: () => {
        tensor[Symbol.dispose]();
        discardRoom();
      },
    };
  }

  /** The memory that the buffer lies in, where this shape fits into it. A buffer that shrinks is copied, to give memory back. */
  #roomToStay(shape: readonly number[]): Tensor | null {
    const [old, room, elements] = [this.#tensor, this.#room, sizeOf(shape)];
    if (old === null || room === null || elements < old.size || elements > room.size) return null;
    const [before = 0, after = 0] = [old.shape[2], shape[2]];
    // Within the same memory rows can only move apart, and only one after the other, which is slow on a device.
    return after === before || (after > before && this.device.isHost) ? room : null;
  }

  #allocate(elements: number): Tensor {
    if (!this.device.isHost) return this.device.zeros(this.type, [elements]);
    try {
      return this.device.untouched(this.type, [ROOM * elements]);
    } catch {
      // Without room it may fit.
      return this.device.untouched(this.type, [elements]);
    }
  }

  /** Copies rows into a tensor with other slots: on a device over zeroed memory of its own, on the host over any, or the same. */
  #move(from: Tensor, to: Tensor, rows: number): void {
    const [, heads = 0, before = 0, headDim = 0] = from.shape;
    const [, , after = 0] = to.shape;
    const length = Math.min(before, after) * headDim;
    const [sourceStride, stride] = [before * headDim, after * headDim];
    if (!this.device.isHost) {
      to.copyStretches(from, { count: rows * heads, length, sourceOffset: 0, sourceStride, offset: 0, stride });
      return;
    }
    // From the last head to the first: in the same memory each moves to where the next ones were.
    for (let i = rows * heads - 1; i >= 0; i--) {
      to.copyFrom(from, i * sourceStride, i * stride, length);
      if (stride > length) to.fill(0, i * stride + length, stride - length);
    }
  }

  [Symbol.dispose](): void {
    this.#tensor?.[Symbol.dispose]();
    this.#room?.[Symbol.dispose]();
    [this.#tensor, this.#room] = [null, null];
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
