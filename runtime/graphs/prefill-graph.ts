import type { CompiledGraph } from "../../models/compile.js";
import {
  BATCH,
  type PrefillInterface,
  type RotaryInputs,
  type SinkScoreInputs,
  TOKENS,
  WANTED,
} from "../../models/graph-interface.js";
import type { Archive } from "../cache/archive.js";
import { rowSize } from "../cache/cache-buffers.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { Ring } from "../cache/ring.js";
import type { HostNode } from "../ort/placement.js";
import { Session } from "../ort/session.js";
import type { Tensor } from "../ort/tensor.js";
import { type Chunk, type ChunkKeys, chunkKeys, keyPlaces, seenKeys, sinkSpans } from "./chunk.js";
import type { GraphResources } from "./graph-resources.js";
import { GraphTensors, rowsOf } from "./graph-tensors.js";
import { bindEdits, type ResidualEdits } from "./residual-edits.js";
import { bindPatches, type ResidualPatches } from "./residual-patches.js";
import type { RotaryTable } from "./rotary-table.js";
import { type Residuals, readTaps, type TapRows } from "./tap-outputs.js";

/** What a run of a prefill graph does besides filling the cache. */
export interface PrefillOptions {
  /** Position of the text's first token: 0 but for tests of far positions. */
  readonly origin?: number;
  /** Is given the tensors of all taps, [chunk.tokens, hiddenSize] each. */
  readonly residuals?: Residuals | TapRows;
  /** Those of the row; null: none. */
  readonly edits?: ResidualEdits | null;
  /** What tokens of the chunk are set to before that; null: none. */
  readonly patches?: ResidualPatches | null;
  /** Keeps the chunk's keys and values; a graph whose starting tokens are not turned must have been built for it. */
  readonly archive?: Archive | null;
  /** Is given the chunk's keys, as caches hold them, and values of each layer: [1, kvHeads, tokens of the run, headDim]. */
  readonly keysAndValues?: (layer: number, keys: Tensor, values: Tensor) => void;
}

/** A chunk of a row's text, and what a run does with it. */
export interface RowChunk extends PrefillOptions {
  readonly row: number;
  readonly ids: ArrayLike<number>;
  /** Tokens of the chunk (0-based) whose logits are returned. */
  readonly wanted: readonly number[];
}

/** The same, and where it stands. */
export interface PrefillRun extends RowChunk {
  readonly chunk: Chunk;
}

/** A prefill graph of a model: chunks of texts, whose keys and values are stored once the run has succeeded. */
export class PrefillGraph implements Disposable {
  readonly #session: Session;
  readonly #resources: GraphResources;
  readonly #names: PrefillInterface;

  constructor(resources: GraphResources, graph: CompiledGraph<PrefillInterface>) {
    this.#resources = resources;
    this.#names = graph.interface;
    this.#session = Session.load(graph.path, {
      ...resources,
      replays: false,
      weights: resources.weights.tensors,
      // A product with a matrix that is not packed gives a row alone other bits than among others.
      prepack: resources.device.isHost,
    });
  }

  get hostNodes(): readonly HostNode[] {
    return this.#session.hostNodes;
  }

  /**
   * Runs a chunk of one row, or the first chunks of several: logits [wanted.length, vocab] of each. Chunks that are shorter
   * than the longest are padded with copies of their last token, so that no number is computed that is not theirs, and no
   * other token sees the copies.
   */
  run(cache: LambdaCache, runs: readonly PrefillRun[]): Float32Array[] {
    if (runs.length > 1 && runs.some(({ chunk }) => chunk.start > 0 || chunk.far))
      throw new RangeError("only the first chunks of rows run together");
    const names = this.#names;
    const length = Math.max(...runs.map(({ chunk }) => chunk.tokens));
    const keys = names.geometries.map(({ sinks }, g) =>
      runs.map(({ row, chunk }) => chunkKeys(cache.ring(row, g), chunk, sinks !== null, length)),
    );
    using tensors = new GraphTensors(this.#resources.device, names.signature, [
      [BATCH, runs.length],
      [TOKENS, length],
      [WANTED, runs.reduce((sum, { wanted }) => sum + wanted.length, 0)],
      ...names.geometries.flatMap(
        (geometry, g) =>
          [
            [geometry.slots, cache.slots(g)],
            [geometry.keys, keys[g]?.[0]?.keys ?? 0],
          ] as const,
      ),
    ]);
    // Several rows begin their texts and read nothing of the cache: any rows of it will do.
    this.#bindCache(tensors, cache, runs.length === 1 ? (runs[0]?.row ?? 0) : 0);
    const edits = runs.map((run) => run.edits ?? null);
    bindEdits(tensors, names.edits, edits, this.#resources);
    bindPatches(
      tensors,
      names.patches,
      runs.map(({ patches = null }) => patches),
    );
    const tapped = runs.some(({ residuals }) => residuals !== undefined);
    tensors.complete(tapped ? [] : names.taps.map(({ output }) => output));
    this.#write(tensors, cache, runs, keys, length);
    using binding = tensors.binding(this.#session);
    tensors.send();
    binding.run();
    for (const [i, run] of runs.entries()) this.#keep(tensors, cache, run, i, length);
    const { vocabSize } = cache.shape;
    let read = 0;
    return runs.map(({ wanted }) => {
      const logits = new Float32Array(wanted.length * vocabSize);
      tensors.output(names.logits).read(logits, read);
      read += logits.length;
      return logits;
    });
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }

  #bindCache(tensors: GraphTensors, cache: LambdaCache, row: number): void {
    for (const [g, { sinks }] of this.#names.geometries.entries()) {
      if (sinks === null) continue;
      tensors.bindRows(sinks.keys, cache.sinkKeys[g], row);
      tensors.share(sinks.masks);
    }
    for (const [layer, { keys, values }] of this.#names.layers.entries()) {
      tensors.bindRows(keys.input, cache.keys[layer], row);
      tensors.bindRows(values.input, cache.values[layer], row);
    }
  }

  #write(
    tensors: GraphTensors,
    cache: LambdaCache,
    runs: readonly PrefillRun[],
    keys: readonly (readonly ChunkKeys[])[],
    length: number,
  ): void {
    const names = this.#names;
    /** Where each token stands in its chunk. */
    const places = runs.map(({ chunk }) => Array.from({ length }, (_, i) => Math.min(i, chunk.tokens - 1)));
    const byRow = (name: string, of: (run: PrefillRun, i: number) => ArrayLike<number>): void => {
      const size = rowSize(tensors.input(name));
      for (const [i, run] of runs.entries()) tensors.write(name, of(run, i), i * size);
    };
    const placesFrom = (i: number, start: number): number[] => places[i]!.map((place) => start + place);
    const pair = ({ cos, sin }: RotaryInputs): [Tensor, Tensor] => [tensors.input(cos), tensors.input(sin)];
    byRow(names.ids, ({ ids }, i) => placesFrom(i, 0).map((place) => ids[place] ?? 0));
    tensors.write(
      names.wanted,
      runs.flatMap(({ wanted }, i) => wanted.map((token) => i * length + token)),
    );
    if (names.positions !== null) byRow(names.positions, ({ chunk }, i) => placesFrom(i, chunk.start));
    for (const [g, { rotary, pastEnd, seen, distances, sinks }] of names.geometries.entries()) {
      const ring = ({ row }: PrefillRun): Ring => cache.ring(row, g);
      const ofRow = (i: number): ChunkKeys => keys[g]![i]!;
      if (rotary !== null)
        for (const [i, { chunk, origin = 0 }] of runs.entries())
          this.#table(g).write(...pair(rotary), i, placesFrom(i, origin + chunk.start));
      tensors.write(pastEnd, [ofRow(0).past]);
      const spans = runs.map((run, i) => seenKeys(ring(run), run.chunk, ofRow(i)));
      byRow(seen.tokens, (_, i) => placesFrom(i, 0));
      byRow(seen.from, (_, i) => spans[i]!.from);
      byRow(seen.until, (_, i) => spans[i]!.until);
      if (distances !== null) {
        byRow(distances.places, (run, i) => keyPlaces(ring(run), run.chunk, ofRow(i)));
        // No token of a first chunk stands a window away from another.
        tensors.write(distances.window, [Math.max(...runs.map((run) => ring(run).window))]);
      }
      if (sinks !== null) this.#writeSinks(tensors, sinks, runs[0]!, g, ring(runs[0]!), ofRow(0));
    }
  }

  /** Of the only row: its starting tokens are scored apart. */
  #writeSinks(
    tensors: GraphTensors,
    names: SinkScoreInputs,
    { chunk, origin = 0 }: PrefillRun,
    geometry: number,
    ring: Ring,
    { keys }: ChunkKeys,
  ): void {
    const pair = ({ cos, sin }: RotaryInputs): [Tensor, Tensor] => [tensors.input(cos), tensors.input(sin)];
    this.#table(geometry).writeDistance(...pair(names.farQuery), 0, ring.window, chunk.tokens);
    this.#table(geometry).write(
      ...pair(names.nearSinks),
      0,
      Array.from({ length: ring.sinks }, (_, s) => origin + s),
    );
    const { nearUntil, hidden } = sinkSpans(ring, chunk);
    tensors.write(names.nearUntil, nearUntil);
    tensors.write(names.hidden, hidden);
    tensors.write(names.column, [keys - ring.sinks]);
  }

  /** Stores the keys and values of the i-th row of a run, and gives its taps. */
  #keep(
    tensors: GraphTensors,
    cache: LambdaCache,
    { row, chunk, archive, residuals, keysAndValues }: PrefillRun,
    i: number,
    length: number,
  ): void {
    const { layers, taps } = this.#names;
    const own: Tensor[] = [];
    const made = (name: string): Tensor => {
      const tensor = rowsOf(tensors.output(name), i, 1);
      own.push(tensor);
      return tensor;
    };
    try {
      const stored = {
        keys: layers.map(({ keys }) => made(keys.output)),
        values: layers.map(({ values }) => made(values.output)),
        rawKeys: layers.map(({ rawKey }) => (rawKey === null ? null : made(rawKey))),
      };
      const rawValues = layers.map(({ rawValue }) => (rawValue === null ? null : made(rawValue)));
      archive?.store(chunk.start, chunk.tokens, (layer) => ({
        keys: stored.rawKeys[layer] ?? stored.keys[layer]!,
        keysAt: 0,
        values: rawValues[layer] ?? stored.values[layer]!,
        valuesAt: 0,
      }));
      for (const [layer, keys] of stored.keys.entries()) keysAndValues?.(layer, keys, stored.values[layer]!);
      cache.commit(row, stored, chunk.tokens);
      if (residuals) readTaps(taps, tensors, residuals, { first: i * length, rows: chunk.tokens });
    } finally {
      for (const tensor of own) tensor[Symbol.dispose]();
    }
  }

  #table(geometry: number): RotaryTable {
    const table = this.#resources.rotary[geometry];
    if (!table) throw new RangeError(`geometry ${geometry} has no rotary positions`);
    return table;
  }
}
