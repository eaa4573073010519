import type { Geometry } from "../../models/model-shape.js";

/**
 * How slots grow, beyond those of the starting tokens. Attention reads all slots, used or not, so on a processor they grow in
 * small steps; a recording of a GPU is of one number of slots, so there they double.
 */
export interface Growth {
  /** The smallest step, and slots that a row begins with. */
  readonly least: number;
  /** Steps from one power of two to the next. */
  readonly perDoubling: number;
}
export const SMALL_STEPS: Growth = { least: 64, perDoubling: 8 };
export const DOUBLING: Growth = { least: 256, perDoubling: 1 };

/**
 * Slots come in multiples of this. ONNX Runtime's products sum whole groups of keys in an order that does not depend on how
 * many groups follow, but an odd rest (three of four on AVX-512) in another: what a row computes would then depend on how
 * many slots its neighbours need.
 */
const GROUP = 16;

/**
 * Which token of a row stands in which slot of the buffers of one geometry: slots 0..G-1 hold the starting tokens, the rest
 * is a ring of the last W. A geometry with a trained window has that window and no starting tokens, whatever the row has.
 */
export class Ring {
  readonly window: number;
  readonly sinks: number;

  constructor(geometry: Geometry, lambda: { readonly window: number; readonly sinks: number }) {
    const trained = geometry.window !== "lambda";
    this.window = geometry.window === "lambda" ? lambda.window : geometry.window;
    this.sinks = trained ? 0 : lambda.sinks;
  }

  /** Slots in use when all are. */
  get full(): number {
    return this.sinks + this.window;
  }

  /** Slot of the token with index `n` in the text. */
  slotOf(n: number): number {
    return n < this.full ? n : this.sinks + ((n - this.sinks) % this.window);
  }

  /** Index of the token in each slot [start, end) of a row that has seen `count` tokens. */
  tokensInSlots(count: number, start: number, end: number): Float64Array {
    const newest = count - 1;
    const newestSlot = this.slotOf(newest);
    const wrapped = count > this.full;
    return Float64Array.from({ length: Math.max(0, end - start) }, (_, i) => {
      const slot = start + i;
      if (!wrapped || slot < this.sinks) return slot;
      return newest - ((newestSlot - slot + this.window) % this.window);
    });
  }

  /** Slots for a text of so many tokens, in steps. */
  slotsFor(tokens: number, { least, perDoubling }: Growth): number {
    const wanted = Math.max(least, tokens - this.sinks);
    // The step from a power of two on to the next.
    const step = Math.max(least, 2 ** Math.ceil(Math.log2(wanted) - 1) / perDoubling);
    const slots = Math.ceil(wanted / step) * step;
    return Math.ceil(Math.min(this.sinks + slots, this.full) / GROUP) * GROUP;
  }
}
