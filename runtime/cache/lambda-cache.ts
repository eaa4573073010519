import { isQuantised, type KvType } from "../../models/keys-values/kv-format.js";
import type { ModelShape } from "../../models/model-shape.js";
import { CPU, type Device } from "../ort/device.js";
import { OrtError } from "../ort/library.js";
import type { Tensor } from "../ort/tensor.js";
import { type BufferSize, CacheBuffers, type ChunkKeyValues, type RawKeys } from "./cache-buffers.js";
import { DOUBLING, type Growth, Ring, SMALL_STEPS } from "./ring.js";

export interface LambdaGeometry {
  /** W: keys of the last W tokens are kept. Infinity keeps all (`mode: full`). */
  readonly window: number;
  /** G: starting tokens that are never evicted. */
  readonly sinks: number;
}

/** One sequence's share of a cache. */
interface Row {
  readonly window: number;
  /** Per geometry. */
  readonly rings: readonly Ring[];
  count: number;
  /** The newest token was appended, and stands where the next one will where the row is full. */
  appended: boolean;
  /** Tokens whose codes have been looked at. */
  seen: number;
  /** Tokens that room has been made for. */
  reserved: number;
  /** The slot of the row's next token may hold what a run wrote there for a token that the row did not keep. */
  scribbled: boolean;
}

/** Codes are looked at when so many tokens have some. */
const LOOK = 32;

/** A cache shrinks when it has so many times the bytes that its rows need. */
const WORTH_SHRINKING = 4;

/**
 * The constant-size cache of LM-Infinite (arXiv 2308.16137, section 3). Per layer one key and one value buffer
 * [rows, kvHeads, slots, width]. A row belongs to one sequence and has a window of its own, whose rings say which token
 * stands in which slot. All rows have as many slots as the longest needs; slots grow in steps until its window is full.
 */
export class LambdaCache implements Disposable {
  /** The largest window that a row may have. */
  readonly window: number;
  readonly sinks: number;
  readonly #buffers: CacheBuffers;
  readonly #growth: Growth;
  #rows: Row[] = [];
  #saturated = 0;

  constructor(
    readonly shape: ModelShape,
    { window, sinks }: LambdaGeometry,
    /** What keys and values are kept in. */
    readonly kv: KvType = "float32",
    /** Where the buffers lie. */
    readonly device: Device = CPU,
    /** Whether steps on it are recorded, where they are at all. */
    readonly recorded = true,
  ) {
    this.window = window;
    this.sinks = sinks;
    this.#buffers = new CacheBuffers(shape, sinks, kv, device);
    this.#growth = device.isHost ? SMALL_STEPS : DOUBLING;
  }

  /** Per layer, [rows, kvHeads, slots, width]: see `kvElement` and `kvWidth`. */
  get keys(): readonly Tensor[] {
    return this.#buffers.keys;
  }

  get values(): readonly Tensor[] {
    return this.#buffers.values;
  }

  /** Per geometry: unrotated keys of the starting tokens, [rows, its layers * kvHeads, sinks, headDim]; null where none are turned. */
  get sinkKeys(): readonly (Tensor | null)[] {
    return this.#buffers.sinkKeys;
  }

  /**
   * Codes of tokens that stand at an end of their range, because what they stand for may have been beyond it. Those of a
   * row's last tokens are counted some steps later, or with its release.
   */
  get saturated(): number {
    return this.#saturated;
  }

  /** Changes whenever the buffers are replaced, so that what was bound to them is bound anew. */
  get generation(): number {
    return this.#buffers.generation;
  }

  /** Rows in use; they are 0..rows-1. */
  get rows(): number {
    return this.#rows.length;
  }

  /** Rows that there is memory for. */
  get capacity(): number {
    return this.#buffers.size.rows;
  }

  /** Slots of each row in the buffers of a geometry's layers. */
  slots(geometry: number): number {
    return this.#buffers.size.slots[geometry] ?? 0;
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return this.#buffers.bytesOf(this.#buffers.size);
  }

  /**
   * Bytes that a cache takes with so many rows, of which the longest has a text of so many tokens and a window of its own.
   * While a cache grows, it takes what it had besides.
   */
  bytesFor(rows: number, tokens: number, window = this.window): number {
    const slots = this.#rings(window).map((ring) => ring.slotsFor(tokens, this.#growth));
    return this.#buffers.bytesOf({ rows: this.#capacityFor(rows), slots });
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
    const row = this.#add({
      window,
      rings: this.#rings(window),
      count: 0,
      appended: false,
      seen: 0,
      reserved: 1,
      scribbled: false,
    });
    this.zero(row);
    return row;
  }

  /** A new last row that goes on as `row` would. @throws OrtError when there is no memory; the cache is then as before. */
  fork(row: number): number {
    const copy = this.#add({ ...this.#row(row) });
    this.#buffers.copyRow(row, copy);
    return copy;
  }

  /** Gives a row back; the last row takes its place, and its old number is returned (or undefined if nothing moved). */
  release(row: number): number | undefined {
    this.settle(row);
    this.#look(row);
    const last = this.#rows.length - 1;
    if (row !== last) {
      this.#buffers.copyRow(last, row);
      this.#rows[row] = this.#row(last);
    }
    this.#rows.pop();
    this.zero(last);
    this.#shrink();
    return row === last ? undefined : last;
  }

  /** Overwrites a row: a NaN left behind would reach its next owner through 0 * NaN. */
  zero(row: number): void {
    this.#buffers.zeroRow(row);
  }

  /** Makes room for `more` tokens in a row. @throws OrtError when there is no memory; the cache is then as before. */
  reserve(row: number, more: number): void {
    const own = this.#row(row);
    const tokens = own.count + more;
    this.#grow(this.capacity, own.rings, tokens);
    own.reserved = Math.max(own.reserved, tokens);
  }

  /**
   * A run is about to write into the slot of the row's next token, for which there must be room. Nobody sees what it writes
   * unless the row advances: the slot is not in use, or its token has left the window.
   */
  scribble(row: number): void {
    this.settle(row);
    this.#row(row).scribbled = true;
  }

  /** Moves a newest token that was appended to a full row out of the way of the next one. */
  settle(row: number): void {
    const own = this.#row(row);
    if (!own.appended) return;
    const newest = own.count - 1;
    for (const [geometry, ring] of own.rings.entries()) {
      const [from, to] = [ring.writtenTo(newest), ring.slotOf(newest)];
      if (from !== to) this.#buffers.copySlot(row, geometry, from, to);
    }
    own.appended = false;
    if (own.count - own.seen >= LOOK) this.#look(row);
  }

  /** Counts a token that a decode step has written in place. */
  advance(row: number): void {
    const own = this.#row(row);
    own.count++;
    own.appended = true;
    own.scribbled = false;
  }

  /** Takes `count` tokens over whose keys and values have been written into the row's buffers from elsewhere. */
  adopt(row: number, count: number): void {
    const own = this.#row(row);
    own.count = count;
    own.seen = count;
    own.appended = false;
    own.scribbled = false;
  }

  /**
   * Zeroes the slot of the row's next token where a run has scribbled into it: a mask hides it from a chunk, but a value
   * that is not finite would come through as 0 * NaN.
   */
  wipe(row: number): void {
    this.settle(row);
    const own = this.#row(row);
    if (!own.scribbled) return;
    for (const [geometry, ring] of own.rings.entries())
      this.#buffers.zeroSlot(row, geometry, ring.writtenTo(own.count));
    own.scribbled = false;
  }

  /** Keeps the unrotated keys of the row's next token if it is a starting token. */
  keepSink(row: number, rawKeys: RawKeys): void {
    this.#storeSinks(row, rawKeys, 1);
  }

  /** Stores the keys and values of the row's next `tokens` tokens (at most its W), the first of the chunk's. */
  commit(row: number, chunk: ChunkKeyValues, tokens: number): void {
    const own = this.#row(row);
    const { window, rings, count: start } = own;
    if (tokens > window) throw new RangeError(`a chunk of ${tokens} tokens does not fit into a window of ${window}`);
    this.#storeSinks(row, chunk.rawKeys, tokens);
    for (const [geometry, ring] of rings.entries()) {
      // A chunk may be longer than a trained window. Then only its last tokens are kept.
      for (let done = Math.max(0, tokens - ring.kept(tokens)); done < tokens; ) {
        const length = Math.min(tokens - done, ring.together(start + done));
        this.#buffers.store(row, geometry, ring.slotOf(start + done), chunk, done, length);
        done += length;
      }
    }
    own.count = start + tokens;
    this.#look(row);
  }

  [Symbol.dispose](): void {
    this.#buffers[Symbol.dispose]();
    this.#rows = [];
  }

  #row(row: number): Row {
    const own = this.#rows[row];
    if (own === undefined) throw new RangeError(`row ${row} is not in use`);
    return own;
  }

  #rings(window: number): Ring[] {
    return this.shape.geometries.map(
      (geometry) => new Ring(geometry, { window, sinks: this.sinks }, isQuantised(this.kv)),
    );
  }

  /** Counts the codes at an end of their range of tokens that nobody has looked at, as far as the row still has them. */
  #look(row: number): void {
    const own = this.#row(row);
    if (!isQuantised(this.kv)) return;
    for (const [geometry, ring] of own.rings.entries()) {
      const since = own.count - own.seen;
      for (let token = own.count - Math.min(since, ring.kept(since)); token < own.count; ) {
        const length = Math.min(own.count - token, ring.together(token));
        this.#saturated += this.#buffers.saturatedIn(row, geometry, ring.slotOf(token), length);
        token += length;
      }
    }
    own.seen = own.count;
  }

  #storeSinks(row: number, rawKeys: RawKeys, tokens: number): void {
    const { count } = this.#row(row);
    const kept = Math.min(tokens, this.sinks - count);
    if (kept > 0) this.#buffers.storeSinks(row, count, rawKeys, kept);
  }

  #add(row: Row): number {
    this.#grow(this.#capacityFor(this.#rows.length + 1), row.rings, row.reserved);
    return this.#rows.push(row) - 1;
  }

  /** Never fewer rows or slots than there are. */
  #grow(rows: number, rings: readonly Ring[], tokens: number): void {
    const slots = rings.map((ring, geometry) => Math.max(this.slots(geometry), ring.slotsFor(tokens, this.#growth)));
    if (rows <= this.capacity && slots.every((each, geometry) => each === this.slots(geometry))) return;
    this.#buffers.resize({ rows: Math.max(rows, this.capacity), slots }, this.#rows.length);
  }

  /** Gives back what rows have left that were many or long. On a device it would cost what was recorded of the cache. */
  #shrink(): void {
    if (this.#rows.length === 0 || !this.device.isHost) return;
    const slots = this.shape.geometries.map((_, geometry) =>
      Math.max(...this.#rows.map(({ rings, reserved }) => rings[geometry]?.slotsFor(reserved, this.#growth) ?? 0)),
    );
    const size: BufferSize = { rows: this.#capacityFor(this.#rows.length), slots };
    if (this.#buffers.bytesOf(size) * WORTH_SHRINKING > this.bytes) return;
    try {
      this.#buffers.resize(size, this.#rows.length);
    } catch (error) {
      // It takes memory first; without it the cache stays as it is.
      if (!(error instanceof OrtError)) throw error;
    }
  }

  /** Rows to make room for when so many are in use: 1, 2, 4, 8, ..., in the host's memory 3, 6, 12, ... too. */
  #capacityFor(rows: number): number {
    let capacity = 1;
    while (capacity < rows) capacity *= 2;
    const less = capacity * 0.75;
    return this.device.isHost && capacity > 2 && rows <= less ? less : capacity;
  }
}
