import type { ActivationType } from "../../models/onnx/graph.js";
import type { Device } from "../ort/device.js";
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
 * A tensor [rows, heads, slots, headDim] that becomes larger and smaller. In the host's memory it grows where it lies, as
 * long as there is room behind it: room takes no memory until it is written, and to write memory for the first time takes
 * several times as long as to move rows apart.
 */
export class RowBuffer implements Disposable {
  #tensor: Tensor | null = null;
  #room: Tensor | null = null;

  constructor(
    readonly device: Device,
    readonly type: ActivationType,
  ) {}

  get tensor(): Tensor {
    if (this.#tensor === null) throw new RangeError("a buffer without rows has no tensor");
    return this.#tensor;
  }

  /** @throws OrtError when there is no memory. */
  resize(shape: readonly number[]): Resizing {
    const elements = shape.reduce((product, size) => product * size, 1);
    const [old, oldRoom] = [this.#tensor, this.#room];
    // What shrinks gives memory back.
    const stays = old !== null && oldRoom !== null && elements >= old.size && elements <= oldRoom.size;
    const room = stays ? oldRoom : this.#allocate(elements);
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
        if (old !== null && !(stays && old.shape[2] === tensor.shape[2])) move(old, tensor, rows);
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

  #allocate(elements: number): Tensor {
    if (this.device.isHost) {
      try {
        return this.device.untouched(this.type, [ROOM * elements]);
      } catch {
        // Without room it may fit.
      }
    }
    return this.device.untouched(this.type, [elements]);
  }

  [Symbol.dispose](): void {
    this.#tensor?.[Symbol.dispose]();
    this.#room?.[Symbol.dispose]();
    [this.#tensor, this.#room] = [null, null];
  }
}

/** Moves rows apart, or together, into a tensor with other slots, over memory of its own or the same. */
function move(from: Tensor, to: Tensor, rows: number): void {
  const [, heads = 0, before = 0, headDim = 0] = from.shape;
  const [, , after = 0] = to.shape;
  const kept = Math.min(before, after) * headDim;
  const added = after * headDim - kept;
  // From the last on: in the same memory, where there are no fewer slots, each moves to where the next ones were.
  for (let i = rows * heads - 1; i >= 0; i--) {
    to.copyFrom(from, i * before * headDim, i * after * headDim, kept);
    if (added > 0) to.fill(0, i * after * headDim + kept, added);
  }
}
