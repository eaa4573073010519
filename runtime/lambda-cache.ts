import type { ModelShape } from "../models/graph-interface.js";
import { Tensor } from "./ort/tensor.js";

/** Slots a row begins with, beyond the starting tokens; doubled until the window is full. */
const FIRST_SLOTS = 256;

export interface LambdaGeometry {
  /** W: keys of the last W tokens are kept. Infinity keeps all (`mode: full`). */
  readonly window: number;
  /** G: starting tokens that are never evicted. */
  readonly sinks: number;
}

/** Keys, values and unrotated keys of a chunk, per layer [1, kvHeads, tokens, headDim]; no unrotated keys without sinks. */
export interface ChunkKeyValues {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly rawKeys: readonly Tensor[];
}

/**
 * The constant-size cache of LM-Infinite (DESIGN: "LM-Infinite, exactly"). Per layer one key and one value buffer
 * [rows, kvHeads, slots, headDim]: slots 0..G-1 hold the starting tokens, the rest is a ring of the last W. A row belongs
 * to one sequence. Rows are contiguous and slots grow in steps until G + W, so a short text pays for what it uses.
 */
export class LambdaCache implements Disposable {
  readonly window: number;
  readonly sinks: number;
  /** Per layer. */
  keys: readonly Tensor[] = [];
  values: readonly Tensor[] = [];
  /** Unrotated keys of the starting tokens, [rows, layers * kvHeads, sinks, headDim]; null without sinks. */
  sinkKeys: Tensor | null = null;
  /** Changes whenever the buffers are replaced, so that what was bound to them is bound anew. */
  generation = 0;
  #rows = 0;
  #slots = 0;
  #counts: number[] = [];

  constructor(
    readonly shape: ModelShape,
    { window, sinks }: LambdaGeometry,
  ) {
    this.window = window;
    this.sinks = sinks;
  }

  /** Rows in use; they are 0..rows-1. */
  get rows(): number {
    return this.#counts.length;
  }

  /** Slots each row has memory for. */
  get slots(): number {
    return this.#slots;
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return [...this.keys, ...this.values, ...(this.sinkKeys ? [this.sinkKeys] : [])].reduce(
      (sum, t) => sum + t.bytes,
      0,
    );
  }

  /** Tokens that the row has seen. */
  count(row: number): number {
    const count = this.#counts[row];
    if (count === undefined) throw new RangeError(`row ${row} is not in use`);
    return count;
  }

  /** Slot of the token with index `n` in the text. */
  slotOf(n: number): number {
    return n < this.sinks + this.window ? n : this.sinks + ((n - this.sinks) % this.window);
  }

  /** Index of the token in each slot [start, end) of a row. */
  tokensInSlots(row: number, start: number, end: number): Float64Array {
    const count = this.count(row);
    const newest = count - 1;
    const newestSlot = this.slotOf(newest);
    const wrapped = count > this.sinks + this.window;
    return Float64Array.from({ length: Math.max(0, end - start) }, (_, i) => {
      const slot = start + i;
      if (!wrapped || slot < this.sinks) return slot;
      return newest - ((newestSlot - slot + this.window) % this.window);
    });
  }

  /** A zeroed row. @throws OrtError when there is no memory; the cache is then as before. */
  allocate(): number {
    const row = this.#counts.length;
    if (row >= this.#rows) this.#resize(Math.max(1, this.#rows * 2), Math.max(this.#slots, this.#slotsFor(1)));
    this.#counts.push(0);
    this.zero(row);
    return row;
  }

  /** Gives a row back; the last row takes its place, and its old number is returned (or undefined if nothing moved). */
  release(row: number): number | undefined {
    this.count(row);
    const last = this.#counts.length - 1;
    if (row !== last) {
      for (const tensor of this.#buffers())
        tensor.copyFrom(tensor, last * rowSize(tensor), row * rowSize(tensor), rowSize(tensor));
      this.#counts[row] = this.#counts[last] ?? 0;
    }
    this.#counts.pop();
    this.zero(last);
    return row === last ? undefined : last;
  }

  /** Overwrites a row: a NaN left behind would reach its next owner through 0 * NaN. */
  zero(row: number): void {
    for (const tensor of this.#buffers()) tensor.fill(0, row * rowSize(tensor), rowSize(tensor));
  }

  /** Makes room for `more` tokens in a row. @throws OrtError when there is no memory; the cache is then as before. */
  reserve(row: number, more: number): void {
    const slots = this.#slotsFor(this.count(row) + more);
    if (slots > this.#slots) this.#resize(this.#rows, slots);
  }

  /** Counts a token that a decode step has written in place. */
  advance(row: number): void {
    this.#counts[row] = this.count(row) + 1;
  }

  /** Keeps the unrotated keys of the row's next token, per layer [1, kvHeads, 1, headDim], if it is a starting token. */
  keepSink(row: number, rawKeys: readonly Tensor[]): void {
    if (this.count(row) < this.sinks) this.#copySinks(row, rawKeys, 1);
  }

  /** Stores the keys and values of the row's next `tokens` tokens (at most W). */
  commit(row: number, chunk: ChunkKeyValues, tokens: number): void {
    const start = this.count(row);
    if (tokens > this.window)
      throw new RangeError(`a chunk of ${tokens} tokens does not fit into a window of ${this.window}`);
    this.#copySinks(row, chunk.rawKeys, tokens);
    for (let done = 0; done < tokens; ) {
      const slot = this.slotOf(start + done);
      const length = Math.min(tokens - done, this.sinks + this.window - slot);
      this.#copySlice(row, slot, chunk, done, length);
      done += length;
    }
    this.#counts[row] = start + tokens;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#buffers()) tensor[Symbol.dispose]();
    this.keys = [];
    this.values = [];
    this.sinkKeys = null;
    this.#counts = [];
  }

  #copySlice(row: number, slot: number, chunk: ChunkKeyValues, from: number, length: number): void {
    const { kvHeads, headDim, layers } = this.shape;
    for (let layer = 0; layer < layers; layer++) {
      for (const [buffer, part] of [
        [this.keys[layer], chunk.keys[layer]],
        [this.values[layer], chunk.values[layer]],
      ]) {
        const tokens = part?.shape[2] ?? 0;
        for (let head = 0; head < kvHeads; head++) {
          const source = (head * tokens + from) * headDim;
          const target = ((row * kvHeads + head) * this.#slots + slot) * headDim;
          if (buffer !== undefined && part !== undefined) buffer.copyFrom(part, source, target, length * headDim);
        }
      }
    }
  }

  #copySinks(row: number, rawKeys: readonly Tensor[], tokens: number): void {
    const { kvHeads, headDim } = this.shape;
    const start = this.count(row);
    for (let n = start; n < Math.min(start + tokens, this.sinks); n++) {
      for (const [layer, raw] of rawKeys.entries()) {
        for (let head = 0; head < kvHeads; head++) {
          const target = ((row * this.shape.layers + layer) * kvHeads + head) * this.sinks + n;
          this.sinkKeys?.copyFrom(raw, (head * tokens + n - start) * headDim, target * headDim, headDim);
        }
      }
    }
  }

  #slotsFor(tokens: number): number {
    const full = this.sinks + this.window;
    let slots = this.sinks + FIRST_SLOTS;
    while (slots < tokens) slots = this.sinks + (slots - this.sinks) * 2;
    return Math.min(slots, full);
  }

  #resize(rows: number, slots: number): void {
    const { layers, kvHeads, headDim } = this.shape;
    const made: Tensor[] = [];
    const zeros = (shape: readonly number[]): Tensor => {
      const tensor = Tensor.zeros("float32", shape);
      made.push(tensor);
      return tensor;
    };
    try {
      const grown = (old: readonly Tensor[]): Tensor[] =>
        Array.from({ length: layers }, (_, layer) =>
          this.#moved(old[layer], zeros([rows, kvHeads, slots, headDim]), slots),
        );
      const keys = grown(this.keys);
      const values = grown(this.values);
      const sinkKeys = this.sinks > 0 ? zeros([rows, layers * kvHeads, this.sinks, headDim]) : null;
      if (sinkKeys && this.sinkKeys)
        sinkKeys.copyFrom(this.sinkKeys, 0, 0, Math.min(this.sinkKeys.size, sinkKeys.size));
      const old = this.#buffers();
      [this.keys, this.values, this.sinkKeys] = [keys, values, sinkKeys];
      for (const tensor of old) tensor[Symbol.dispose]();
    } catch (error) {
      for (const tensor of made) tensor[Symbol.dispose]();
      throw error;
    }
    this.#rows = rows;
    this.#slots = slots;
    this.generation++;
  }

  #moved(old: Tensor | undefined, tensor: Tensor, slots: number): Tensor {
    const { kvHeads, headDim } = this.shape;
    if (old === undefined) return tensor;
    for (let block = 0; block < this.#rows * kvHeads; block++) {
      tensor.copyFrom(old, block * this.#slots * headDim, block * slots * headDim, this.#slots * headDim);
    }
    return tensor;
  }

  #buffers(): Tensor[] {
    return [...this.keys, ...this.values, ...(this.sinkKeys ? [this.sinkKeys] : [])];
  }
}

const rowSize = (tensor: Tensor): number => tensor.size / (tensor.shape[0] ?? 1);
