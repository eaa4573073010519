import { turnsSinks } from "../../models/attention.js";
import type { ModelShape } from "../../models/graph-interface.js";
import type { ActivationType } from "../../models/onnx/graph.js";
import { CPU, type Device } from "../ort/device.js";
import type { Tensor } from "../ort/tensor.js";
import { Ring } from "./ring.js";

export interface LambdaGeometry {
  /** W: keys of the last W tokens are kept. Infinity keeps all (`mode: full`). */
  readonly window: number;
  /** G: starting tokens that are never evicted. */
  readonly sinks: number;
}

/** Per layer [1, kvHeads, tokens, headDim]; null in layers that do not turn their starting tokens. */
export type RawKeys = readonly (Tensor | null)[];

/** Keys, values and unrotated keys of a chunk, per layer [1, kvHeads, tokens, headDim]. */
export interface ChunkKeyValues {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly rawKeys: RawKeys;
}

/**
 * The constant-size cache of LM-Infinite (arXiv 2308.16137, section 3). Per layer one key and one value buffer
 * [rows, kvHeads, slots, headDim], laid out as the ring of its geometry says. A row belongs to one sequence. Rows are
 * contiguous and slots grow in steps until all are in use, so a short text pays for what it uses.
 */
export class LambdaCache implements Disposable {
  readonly window: number;
  readonly sinks: number;
  /** Per layer. */
  keys: readonly Tensor[] = [];
  values: readonly Tensor[] = [];
  /** Per geometry: unrotated keys of the starting tokens, [rows, its layers * kvHeads, sinks, headDim]; null where none are turned. */
  sinkKeys: readonly (Tensor | null)[] = [];
  /** Per geometry. */
  readonly rings: readonly Ring[];
  /** Changes whenever the buffers are replaced, so that what was bound to them is bound anew. */
  generation = 0;
  #rows = 0;
  #counts: number[] = [];

  constructor(
    readonly shape: ModelShape,
    { window, sinks }: LambdaGeometry,
    /** What keys and values are kept in. */
    readonly activations: ActivationType = "float32",
    /** Where the buffers lie. */
    readonly device: Device = CPU,
    /** Whether steps on it are recorded, where they are at all. */
    readonly recorded = true,
  ) {
    this.window = window;
    this.sinks = sinks;
    this.rings = shape.geometries.map((geometry) => new Ring(geometry, { window, sinks }));
  }

  /** Rows in use; they are 0..rows-1. */
  get rows(): number {
    return this.#counts.length;
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return this.#buffers().reduce((sum, tensor) => sum + tensor.bytes, 0);
  }

  /** Tokens that the row has seen. */
  count(row: number): number {
    const count = this.#counts[row];
    if (count === undefined) throw new RangeError(`row ${row} is not in use`);
    return count;
  }

  /** A zeroed row. @throws OrtError when there is no memory; the cache is then as before. */
  allocate(): number {
    const row = this.#counts.length;
    if (row >= this.#rows) this.#resize(Math.max(1, this.#rows * 2), this.#slotsFor(1));
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
    if (this.rings.some((ring, i) => ring.slots < (slots[i] ?? 0))) this.#resize(this.#rows, slots);
  }

  /** Counts a token that a decode step has written in place. */
  advance(row: number): void {
    this.#counts[row] = this.count(row) + 1;
  }

  /** Keeps the unrotated keys of the row's next token if it is a starting token. */
  keepSink(row: number, rawKeys: RawKeys): void {
    if (this.count(row) < this.sinks) this.#copySinks(row, rawKeys, 1);
  }

  /** Stores the keys and values of the row's next `tokens` tokens (at most W). */
  commit(row: number, chunk: ChunkKeyValues, tokens: number): void {
    const start = this.count(row);
    if (tokens > this.window)
      throw new RangeError(`a chunk of ${tokens} tokens does not fit into a window of ${this.window}`);
    this.#copySinks(row, chunk.rawKeys, tokens);
    for (const [geometry, ring] of this.rings.entries()) {
      // Of a chunk longer than a trained window only the end stays.
      for (let done = Math.max(0, tokens - ring.full); done < tokens; ) {
        const slot = ring.slotOf(start + done);
        const length = Math.min(tokens - done, ring.full - slot);
        this.#copySlice(row, geometry, slot, chunk, done, length);
        done += length;
      }
    }
    this.#counts[row] = start + tokens;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#buffers()) tensor[Symbol.dispose]();
    this.keys = [];
    this.values = [];
    this.sinkKeys = [];
    this.#counts = [];
  }

  #copySlice(row: number, geometry: number, slot: number, chunk: ChunkKeyValues, from: number, length: number): void {
    const { kvHeads, headDim } = this.shape;
    const slots = this.rings[geometry]?.slots ?? 0;
    for (const layer of this.#layersOf(geometry)) {
      for (const [buffer, part] of [
        [this.keys[layer], chunk.keys[layer]],
        [this.values[layer], chunk.values[layer]],
      ]) {
        const tokens = part?.shape[2] ?? 0;
        if (buffer === undefined || part === undefined) continue;
        buffer.copyStretches(part, {
          count: kvHeads,
          length: length * headDim,
          sourceOffset: from * headDim,
          sourceStride: tokens * headDim,
          offset: (row * kvHeads * slots + slot) * headDim,
          stride: slots * headDim,
        });
      }
    }
  }

  #copySinks(row: number, rawKeys: RawKeys, tokens: number): void {
    const { kvHeads, headDim } = this.shape;
    const start = this.count(row);
    for (const [geometry, sinkKeys] of this.sinkKeys.entries()) {
      if (sinkKeys === null) continue;
      const layers = this.#layersOf(geometry);
      const kept = Math.min(tokens, this.sinks - start);
      if (kept <= 0) continue;
      for (const [nth, layer] of layers.entries()) {
        const raw = rawKeys[layer];
        if (!raw) continue;
        sinkKeys.copyStretches(raw, {
          count: kvHeads,
          length: kept * headDim,
          sourceOffset: 0,
          sourceStride: tokens * headDim,
          offset: ((row * layers.length + nth) * kvHeads * this.sinks + start) * headDim,
          stride: this.sinks * headDim,
        });
      }
    }
  }

  /** Per geometry, never fewer than there are. */
  #slotsFor(tokens: number): number[] {
    return this.rings.map((ring) => Math.max(ring.slots, ring.slotsFor(tokens)));
  }

  #layersOf(geometry: number): number[] {
    return [...this.shape.layerGeometries.keys()].filter((layer) => this.shape.layerGeometries[layer] === geometry);
  }

  #resize(rows: number, slots: readonly number[]): void {
    const { kvHeads, headDim, layerGeometries, geometries } = this.shape;
    const made: Tensor[] = [];
    const zeros = (shape: readonly number[]): Tensor => {
      const tensor = this.device.zeros(this.activations, shape);
      made.push(tensor);
      return tensor;
    };
    try {
      const grown = (old: readonly Tensor[]): Tensor[] =>
        layerGeometries.map((geometry, layer) =>
          this.#moved(old[layer], zeros([rows, kvHeads, slots[geometry] ?? 0, headDim])),
        );
      const keys = grown(this.keys);
      const values = grown(this.values);
      const sinkKeys = geometries.map((geometry, i) => {
        if (!turnsSinks(geometry, this.sinks)) return null;
        const tensor = zeros([rows, this.#layersOf(i).length * kvHeads, this.sinks, headDim]);
        const old = this.sinkKeys[i];
        if (old) tensor.copyFrom(old, 0, 0, Math.min(old.size, tensor.size));
        return tensor;
      });
      const old = this.#buffers();
      [this.keys, this.values, this.sinkKeys] = [keys, values, sinkKeys];
      for (const tensor of old) tensor[Symbol.dispose]();
    } catch (error) {
      for (const tensor of made) tensor[Symbol.dispose]();
      throw error;
    }
    this.#rows = rows;
    for (const [i, ring] of this.rings.entries()) ring.slots = slots[i] ?? 0;
    this.generation++;
  }

  #moved(old: Tensor | undefined, tensor: Tensor): Tensor {
    const { kvHeads, headDim } = this.shape;
    if (old === undefined) return tensor;
    const [before = 0, after = 0] = [old.shape[2], tensor.shape[2]];
    tensor.copyStretches(old, {
      count: this.#rows * kvHeads,
      length: before * headDim,
      sourceOffset: 0,
      sourceStride: before * headDim,
      offset: 0,
      stride: after * headDim,
    });
    return tensor;
  }

  #buffers(): Tensor[] {
    return [...this.keys, ...this.values, ...this.sinkKeys.flatMap((tensor) => tensor ?? [])];
  }
}

/** Elements of one row of a buffer. */
export const rowSize = (tensor: Tensor): number => tensor.size / (tensor.shape[0] ?? 1);
