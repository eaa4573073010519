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
 *
 * Where a decoded token is appended to those in use, the newest token of a full row stands in the last slot, and the ring
 * has the W - 1 slots before that. The token moves to its place in the ring before the next one is written.
 */
export class Ring {
  readonly window: number;
  readonly sinks: number;
  /** Slots of the ring. */
  readonly #length: number;

  constructor(
    geometry: Geometry,
    lambda: { readonly window: number; readonly sinks: number },
    readonly appends = false,
  ) {
    const trained = geometry.window !== "lambda";
    this.window = geometry.window === "lambda" ? lambda.window : geometry.window;
    this.sinks = trained ? 0 : lambda.sinks;
    this.#length = appends ? Math.max(1, this.window - 1) : this.window;
  }

  /** Slots in use when all are. */
  get full(): number {
    return this.sinks + this.window;
  }

  /** How many tokens of a text of `count` are in the row's slots when the next one comes. */
  kept(count: number): number {
    return Math.min(count, this.sinks + this.#length);
  }

  /** Slot of the token with index `n` in the text, once the next one is written. */
  slotOf(n: number): number {
    return n < this.sinks + this.#length ? n : this.sinks + ((n - this.sinks) % this.#length);
  }

  /** How many tokens from `n` on stand in neighbouring slots. */
  together(n: number): number {
    return this.sinks + this.#length - this.slotOf(n);
  }

  /** Slot that token `n` is written to when it is decoded. */
  writtenTo(n: number): number {
    return this.appends ? Math.min(n, this.full - 1) : this.slotOf(n);
  }

  /** Index of the token in each slot that the token with index `n` sees when it is decoded, its own among them. */
  seenBy(n: number): Float64Array {
    if (!this.appends) return this.tokensInSlots(n + 1, 0, Math.min(n + 1, this.full));
    const own = this.writtenTo(n);
    const tokens = new Float64Array(own + 1);
    tokens.set(this.tokensInSlots(n, 0, own));
    tokens[own] = n;
    return tokens;
  }

  /** Index of the token in each slot [start, end) of a row that has seen `count` tokens. */
  tokensInSlots(count: number, start: number, end: number): Float64Array {
    const newest = count - 1;
    const newestSlot = this.slotOf(newest);
    const wrapped = count > this.sinks + this.#length;
    return Float64Array.from({ length: Math.max(0, end - start) }, (_, i) => {
      const slot = start + i;
      if (!wrapped || slot < this.sinks) return slot;
      return newest - ((newestSlot - slot + this.#length) % this.#length);
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
