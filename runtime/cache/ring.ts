import type { Geometry } from "../../models/graph-interface.js";

/** Slots a row begins with, beyond the starting tokens; doubled until the window is full. */
const FIRST_SLOTS = 256;

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
  slotsFor(tokens: number): number {
    let slots = this.sinks + FIRST_SLOTS;
    while (slots < tokens) slots = this.sinks + (slots - this.sinks) * 2;
    return Math.ceil(Math.min(slots, this.full) / GROUP) * GROUP;
  }
}
