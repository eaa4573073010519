import { HIDDEN } from "../../models/attention/attention.js";
import type { CompiledGraph } from "../../models/compile.js";
import type { DecodeInterface, RotaryInputs } from "../../models/graph-interface.js";
import type { Archive } from "../cache/archive.js";
import { rowSize } from "../cache/cache-buffers.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { HostNode } from "../ort/placement.js";
import { Session } from "../ort/session.js";
import type { Tensor } from "../ort/tensor.js";
import { slotDistances } from "./chunk.js";
import { DecodeBindings } from "./decode-bindings.js";
import type { GraphResources } from "./graph-resources.js";
import type { GraphTensors } from "./graph-tensors.js";
import type { ResidualEdits } from "./residual-edits.js";
import { blockAround, type RowRange } from "./row-block.js";
import { type Residuals, readTaps, type TapRows } from "./tap-outputs.js";

/** What a run of the decode graph does besides computing logits. */
export interface DecodeOptions {
  /** Position of the text's first token: 0 but for tests of far positions. */
  readonly origin?: number;
  /** Is given the tensors of all taps, [rows, hiddenSize] each. */
  readonly residuals?: Residuals | TapRows;
  /** Those of each row; null: none. */
  readonly edits?: readonly (ResidualEdits | null)[];
  /** What the row, which then is the only one, has archived; the token is added to it. */
  readonly archive?: Archive | null;
}

/** The id that rows compute with which do not decode in a step. */
const IDLE = 0;

/** The decode graph of a model: one token in each of some neighbouring rows, keys and values written in place. */
export class DecodeGraph implements Disposable {
  readonly #session: Session;
  readonly #resources: GraphResources;
  readonly #names: DecodeInterface;
  readonly #bindings: DecodeBindings;
  /** Whether runs may be recorded. */
  readonly #replays: boolean;
  #logits = new Float32Array(0);

  constructor(resources: GraphResources, graph: CompiledGraph<DecodeInterface>) {
    this.#resources = resources;
    this.#names = graph.interface;
    // An archive grows with its text: each recording would be replayed a few times only.
    this.#replays = resources.replays && graph.interface.recordable && graph.interface.retrieved === null;
    this.#session = Session.load(graph.path, {
      ...resources,
      replays: this.#replays,
      weights: resources.weights.tensors,
      // A product with a matrix that is not packed gives a row alone other bits than among others.
      prepack: resources.device.isHost,
    });
    this.#bindings = new DecodeBindings(this.#session, resources, graph.interface, this.#replays);
  }

  get hostNodes(): readonly HostNode[] {
    return this.#session.hostNodes;
  }

  /** The rows that a run computes which some are to decode in: they, or their block where it is recorded. */
  computed(cache: LambdaCache, range: RowRange): RowRange {
    return this.#replays && cache.recorded ? blockAround(range, cache.capacity) : range;
  }

  /**
   * Logits [tokens.length, vocab] of rows first, first + 1, ...; rows whose token is null compute along, and their logits
   * mean nothing. Counts are left to the caller. A graph with edit inputs needs `edits`, and one that retrieves an `archive`.
   */
  run(cache: LambdaCache, first: number, tokens: readonly (number | null)[], options: DecodeOptions): Float32Array {
    const { origin = 0, residuals, archive = null } = options;
    if ((archive !== null) !== (this.#names.retrieved !== null) || (archive !== null && tokens.length !== 1))
      throw new RangeError("a graph that retrieves runs one row, with its archive");
    if (archive !== null) this.#open(archive, cache.count(first));
    const asked = { first, rows: tokens.length };
    const range = this.computed(cache, asked);
    const before = first - range.first;
    const rows = Array.from({ length: range.rows }, (_, i) => {
      const row = range.first + i;
      // A row of the block that is not in use computes as if it had just begun.
      const known = row < cache.rows ? row : first;
      return { known, count: row === known ? cache.count(row) : 0, token: tokens[i - before] ?? null };
    });
    const edits = options.edits === undefined ? [] : rows.map((_, i) => options.edits?.[i - before] ?? null);
    const bound = this.#bindings.of(cache, { ...range, tapped: residuals !== undefined, edits, archive });
    const { tensors } = bound;
    const write = (name: string, values: ArrayLike<number>, at = 0) => tensors.write(name, values, at);
    write(
      this.#names.ids,
      rows.map(({ token }) => token ?? IDLE),
    );
    // A row may wait that has as many tokens as the model has positions.
    if (this.#names.positions !== null)
      write(
        this.#names.positions,
        rows.map(({ token, count }) => (token === null ? 0 : count)),
      );
    if (archive !== null && this.#names.retrieved !== null) write(this.#names.retrieved, [archive.retrieval.k]);
    for (const [
      g,
      { rotary, sinks, writeIndex, appended, length, distances, middle },
    ] of this.#names.geometries.entries()) {
      const slots = cache.slots(g);
      if (archive !== null && middle !== null) {
        const { full } = cache.ring(first, g);
        write(middle.unused, new Float32Array(slots).fill(HIDDEN, Math.min(cache.count(first) + 1, full)));
        if (middle.query !== null) {
          const [cos, sin] = [tensors.input(middle.query.cos), tensors.input(middle.query.sin)];
          this.#resources.rotary[g]?.writeDistance(cos, sin, 0, archive.retrieval.distance, 1);
        }
      }
      for (const [i, { known, count: n }] of rows.entries()) {
        const ring = cache.ring(known, g);
        if (writeIndex !== null) write(writeIndex, [ring.writtenTo(n)], i);
        if (appended !== null) write(appended.past, [ring.writtenTo(n)], i);
        if (length !== null) write(length, [Math.min(n + 1, ring.full)], i);
        if (distances !== null) write(distances, slotDistances(ring, slots, n), i * slots);
        if (rotary !== null) this.#rotate(tensors, g, rotary, i, [origin + n]);
        if (sinks === null) continue;
        const nearest = n - ring.window;
        const standing = Array.from({ length: ring.sinks }, (_, s) => origin + Math.max(s, nearest));
        this.#rotate(tensors, g, sinks.rotary, i, standing);
      }
    }
    tensors.send();
    bound.binding.run(bound.recording);
    for (const [i, { token }] of rows.entries()) if (token !== null) this.#keepSink(cache, range.first, i, tensors);
    if (archive !== null) this.#keep(archive, cache, first, tensors);
    if (residuals) readTaps(this.#names.taps, tensors, residuals, { first: before, rows: tokens.length });
    const { vocabSize } = cache.shape;
    if (this.#logits.length !== tokens.length * vocabSize) this.#logits = new Float32Array(tokens.length * vocabSize);
    return tensors.output(this.#names.logits).read(this.#logits, before * vocabSize);
  }

  /** Frees what was bound to a cache. */
  forget(cache: LambdaCache): void {
    this.#bindings.forget(cache);
  }

  /** Frees what was bound to buffers that a cache no longer has. */
  forgetStale(cache: LambdaCache): void {
    this.#bindings.forgetStale(cache);
  }

  /** Frees what was bound to an archive, which would otherwise outlive its text. */
  forgetArchive(archive: Archive): void {
    this.#bindings.forgetArchive(archive);
  }

  [Symbol.dispose](): void {
    this.#bindings[Symbol.dispose]();
    this.#session[Symbol.dispose]();
  }

  #rotate(
    tensors: GraphTensors,
    geometry: number,
    { cos, sin }: RotaryInputs,
    row: number,
    positions: readonly number[],
  ): void {
    this.#resources.rotary[geometry]?.write(tensors.input(cos), tensors.input(sin), row, positions);
  }

  #keepSink(cache: LambdaCache, first: number, i: number, tensors: GraphTensors): void {
    if (cache.count(first + i) >= cache.sinks) return;
    const own: (Tensor | null)[] = [];
    try {
      for (const { rawKey } of this.#names.layers)
        own.push(rawKey === null ? null : this.#rawKey(cache, tensors.output(rawKey.output), i, rawKey.at));
      cache.keepSink(first + i, own);
    } finally {
      for (const tensor of own) tensor?.[Symbol.dispose]();
    }
  }

  /** Of row i of an output [rows, ...], from element `at` on, over its memory: [1, kvHeads, 1, headDim]. */
  #rawKey({ shape: { kvHeads, headDim } }: LambdaCache, output: Tensor, i: number, at: number): Tensor {
    return output.alias([1, kvHeads, 1, headDim], i * rowSize(output) + at);
  }

  /** Readies an archive for the token with index `t`. Bindings hold its old memory, so they are freed before it grows. */
  #open(archive: Archive, t: number): void {
    if (archive.room <= t) this.#bindings.forgetArchive(archive);
    archive.reserve(t + 1);
    archive.showTo(t);
  }

  /** Adds the token of a row to its archive. */
  #keep(archive: Archive, cache: LambdaCache, row: number, tensors: GraphTensors): void {
    const n = cache.count(row);
    archive.store(n, 1, (layer) => {
      const geometry = cache.shape.layerGeometries[layer] ?? 0;
      const inCache = row * cache.shape.kvHeads * cache.slots(geometry) + cache.ring(row, geometry).writtenTo(n);
      const { rawKey = null, rawValue = null } = this.#names.layers[layer] ?? {};
      return {
        ...(rawKey === null
          ? { keys: cache.keys[layer]!, keysAt: inCache }
          : { keys: tensors.output(rawKey.output), keysAt: 0 }),
        ...(rawValue === null
          ? { values: cache.values[layer]!, valuesAt: inCache }
          : { values: tensors.output(rawValue), valuesAt: 0 }),
      };
    });
  }
}
