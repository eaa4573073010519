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

/** One sequence's share of a cache. */
interface Row {
  readonly window: number;
  /** Per geometry. */
  readonly rings: readonly Ring[];
  count: number;
  /** The slot of the row's next token may hold what a run wrote there for a token that the row did not keep. */
  scribbled: boolean;
}

/**
 * The constant-size cache of LM-Infinite (arXiv 2308.16137, section 3). Per layer one key and one value buffer
 * [rows, kvHeads, slots, headDim]. A row belongs to one sequence and has a window of its own, whose rings say which token
 * stands in which slot. All rows have as many slots as the longest needs; slots grow in steps until its window is full.
 */
export class LambdaCache implements Disposable {
  /** The largest window that a row may have. */
  readonly window: number;
  readonly sinks: number;
  /** Per layer. */
  keys: readonly Tensor[] = [];
  values: readonly Tensor[] = [];
  /** Per geometry: unrotated keys of the starting tokens, [rows, its layers * kvHeads, sinks, headDim]; null where none are turned. */
  sinkKeys: readonly (Tensor | null)[] = [];
  /** Changes whenever the buffers are replaced, so that what was bound to them is bound anew. */
  generation = 0;
  /** Rows and, per geometry, slots that there is memory for. */
  #capacity = 0;
  #slots: readonly number[];
  #rows: Row[] = [];

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
    this.#slots = shape.geometries.map(() => 0);
  }

  /** Rows in use; they are 0..rows-1. */
  get rows(): number {
    return this.#rows.length;
  }

  /** Slots of each row in the buffers of a geometry's layers. */
  slots(geometry: number): number {
    return this.#slots[geometry] ?? 0;
  }

  /** Where the row's tokens stand in those buffers. */
  ring(row: number, geometry: number): Ring {
    const ring = this.#row(row).rings[geometry];
    if (ring === undefined) throw new RangeError(`the model has no geometry ${geometry}`);
    return ring;
  }

  /** W of the row. */
  windowOf(row: number): number {
    return this.#row(row).window;
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return this.#buffers().reduce((sum, tensor) => sum + tensor.bytes, 0);
  }

  /** Tokens that the row has seen. */
  count(row: number): number {
    return this.#row(row).count;
  }

  /**
   * A zeroed row, whose keys of the last `window` tokens are kept.
   * @throws RangeError where the cache's own window is smaller; OrtError when there is no memory: the cache is then as before.
   */
  allocate(window = this.window): number {
    if (!(window >= 1 && window <= this.window))
      throw new RangeError(`a row's window must be between 1 and ${this.window}, not ${window}`);
    const rings = this.shape.geometries.map((geometry) => new Ring(geometry, { window, sinks: this.sinks }));
    this.#makeRoom(rings, 1);
    const row = this.#rows.push({ window, rings, count: 0, scribbled: false }) - 1;
    this.zero(row);
    return row;
  }

  /** A new last row that goes on as `row` would. @throws OrtError when there is no memory; the cache is then as before. */
  fork(row: number): number {
    const original = this.#row(row);
    this.#makeRoom(original.rings, original.count);
    const copy = this.#rows.push({ ...original }) - 1;
    this.#copyRow(row, copy);
    return copy;
  }

  /** Gives a row back; the last row takes its place, and its old number is returned (or undefined if nothing moved). */
  release(row: number): number | undefined {
    this.#row(row);
    const last = this.#rows.length - 1;
    if (row !== last) {
      this.#copyRow(last, row);
      this.#rows[row] = this.#row(last);
    }
    this.#rows.pop();
    this.zero(last);
    return row === last ? undefined : last;
  }

  /** Overwrites a row: a NaN left behind would reach its next owner through 0 * NaN. */
  zero(row: number): void {
    for (const tensor of this.#buffers()) tensor.fill(0, row * rowSize(tensor), rowSize(tensor));
  }

  /** Makes room for `more` tokens in a row. @throws OrtError when there is no memory; the cache is then as before. */
  reserve(row: number, more: number): void {
    const { rings, count } = this.#row(row);
    const slots = this.#slotsFor(rings, count + more);
    if (slots.some((each, geometry) => each > this.slots(geometry))) this.#resize(this.#capacity, slots);
  }

  /**
   * A run is about to write into the slot of the row's next token, for which there must be room. Nobody sees what it writes
   * unless the row advances: the slot is not in use, or its token has left the window.
   */
  scribble(row: number): void {
    this.#row(row).scribbled = true;
  }

  /** Counts a token that a decode step has written in place. */
  advance(row: number): void {
    const own = this.#row(row);
    own.count++;
    own.scribbled = false;
  }

  /** Takes `count` tokens over whose keys and values have been written into the row's buffers from elsewhere. */
  adopt(row: number, count: number): void {
    const own = this.#row(row);
    own.count = count;
    own.scribbled = false;
  }

  /**
   * Zeroes the slot of the row's next token where a run has scribbled into it: a mask hides it from a chunk, but a value
   * that is not finite would come through as 0 * NaN.
   */
  wipe(row: number): void {
    const own = this.#row(row);
    if (!own.scribbled) return;
    const { kvHeads, headDim, layerGeometries } = this.shape;
    for (const [layer, geometry] of layerGeometries.entries()) {
      const slot = this.ring(row, geometry).slotOf(own.count);
      for (const buffer of [this.keys[layer], this.values[layer]])
        for (let head = 0; head < kvHeads; head++)
          buffer?.fill(0, ((row * kvHeads + head) * this.slots(geometry) + slot) * headDim, headDim);
    }
    own.scribbled = false;
  }

  /** Keeps the unrotated keys of the row's next token if it is a starting token. */
  keepSink(row: number, rawKeys: RawKeys): void {
    if (this.count(row) < this.sinks) this.#copySinks(row, rawKeys, 1);
  }

  /** Stores the keys and values of the row's next `tokens` tokens (at most its W). */
  commit(row: number, chunk: ChunkKeyValues, tokens: number): void {
    const { window, rings, count: start } = this.#row(row);
    if (tokens > window) throw new RangeError(`a chunk of ${tokens} tokens does not fit into a window of ${window}`);
    this.#copySinks(row, chunk.rawKeys, tokens);
    for (const [geometry, ring] of rings.entries()) {
      // Of a chunk longer than a trained window only the end stays.
      for (let done = Math.max(0, tokens - ring.full); done < tokens; ) {
        const slot = ring.slotOf(start + done);
        const length = Math.min(tokens - done, ring.full - slot);
        this.#copySlice(row, geometry, slot, chunk, done, length);
        done += length;
      }
    }
    this.#row(row).count = start + tokens;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#buffers()) tensor[Symbol.dispose]();
    this.keys = [];
    this.values = [];
    this.sinkKeys = [];
    this.#rows = [];
  }

  #row(row: number): Row {
    const own = this.#rows[row];
    if (own === undefined) throw new RangeError(`row ${row} is not in use`);
    return own;
  }

  #copyRow(from: number, to: number): void {
    for (const tensor of this.#buffers())
      tensor.copyFrom(tensor, from * rowSize(tensor), to * rowSize(tensor), rowSize(tensor));
  }

  #copySlice(row: number, geometry: number, slot: number, chunk: ChunkKeyValues, from: number, length: number): void {
    const { kvHeads, headDim } = this.shape;
    const slots = this.slots(geometry);
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

  /** Makes room for one row more, with so many tokens. */
  #makeRoom(rings: readonly Ring[], tokens: number): void {
    const slots = this.#slotsFor(rings, tokens);
    const isFull = this.#rows.length === this.#capacity;
    if (!isFull && slots.every((each, geometry) => each === this.slots(geometry))) return;
    this.#resize(isFull ? Math.max(1, this.#capacity * 2) : this.#capacity, slots);
  }

  /** Per geometry, never fewer than there are. */
  #slotsFor(rings: readonly Ring[], tokens: number): number[] {
    return rings.map((ring, geometry) => Math.max(this.slots(geometry), ring.slotsFor(tokens)));
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
    this.#capacity = rows;
    this.#slots = slots;
    this.generation++;
  }

  #moved(old: Tensor | undefined, tensor: Tensor): Tensor {
    const { kvHeads, headDim } = this.shape;
    if (old === undefined) return tensor;
    const [before = 0, after = 0] = [old.shape[2], tensor.shape[2]];
    tensor.copyStretches(old, {
      count: this.#capacity * kvHeads,
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
