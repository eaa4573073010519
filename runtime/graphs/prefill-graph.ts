import type { CompiledGraph } from "../../models/compile.js";
import { BATCH, type PrefillInterface, type RotaryInputs, TOKENS, WANTED } from "../../models/graph-interface.js";
import type { Archive } from "../cache/archive.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { HostNode } from "../ort/placement.js";
import { Session } from "../ort/session.js";
import type { Tensor } from "../ort/tensor.js";
import { type Chunk, type ChunkKeys, chunkKeys, keyPlaces, seenKeys, sinkSpans } from "./chunk.js";
import type { GraphResources } from "./graph-resources.js";
import { GraphTensors } from "./graph-tensors.js";
import { bindEdits, type ResidualEdits } from "./residual-edits.js";
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
  /** Keeps the chunk's keys and values; a graph whose starting tokens are not turned must have been built for it. */
  readonly archive?: Archive | null;
}

export interface PrefillRun extends PrefillOptions {
  readonly chunk: Chunk;
  readonly ids: ArrayLike<number>;
  /** Tokens of the chunk (0-based) whose logits are returned. */
  readonly wanted: readonly number[];
}

/** A prefill graph of a model: a chunk of one row's text, whose keys and values are stored once the run has succeeded. */
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
      prepack: resources.prepacked !== undefined,
    });
  }

  get hostNodes(): readonly HostNode[] {
    return this.#session.hostNodes;
  }

  /** Logits [wanted.length, vocab]. */
  run(cache: LambdaCache, row: number, run: PrefillRun): Float32Array {
    const { chunk } = run;
    const names = this.#names;
    const keys = names.geometries.map(({ sinks }, g) => chunkKeys(cache.ring(row, g), chunk, sinks !== null));
    using tensors = new GraphTensors(this.#resources.device, names.signature, [
      [BATCH, 1],
      [TOKENS, chunk.tokens],
      [WANTED, run.wanted.length],
      ...names.geometries.flatMap(
        (geometry, g) =>
          [
            [geometry.slots, cache.slots(g)],
            [geometry.keys, keys[g]?.keys ?? 0],
          ] as const,
      ),
    ]);
    this.#bindCache(tensors, cache, row);
    bindEdits(tensors, names.edits, [run.edits ?? null], this.#resources);
    tensors.complete(run.residuals ? [] : names.taps.map(({ output }) => output));
    this.#write(tensors, cache, row, run, keys);
    using binding = tensors.binding(this.#session);
    tensors.send();
    binding.run();
    const made = (name: string): Tensor => tensors.output(name);
    const stored = {
      keys: names.layers.map((layer) => made(layer.keys.output)),
      values: names.layers.map((layer) => made(layer.values.output)),
      rawKeys: names.layers.map(({ rawKey }) => (rawKey === null ? null : made(rawKey))),
    };
    run.archive?.store(chunk.start, chunk.tokens, (layer) => ({
      keys: stored.rawKeys[layer] ?? stored.keys[layer]!,
      keysAt: 0,
      values: stored.values[layer]!,
      valuesAt: 0,
    }));
    cache.commit(row, stored, chunk.tokens);
    if (run.residuals) readTaps(names.taps, tensors, run.residuals, { first: 0, rows: chunk.tokens });
    const logits = made(names.logits);
    return logits.read(new Float32Array(logits.size));
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
    row: number,
    { chunk, ids, wanted, origin = 0 }: PrefillRun,
    keys: readonly ChunkKeys[],
  ): void {
    const { tokens } = chunk;
    const names = this.#names;
    const pair = ({ cos, sin }: RotaryInputs): [Tensor, Tensor] => [tensors.input(cos), tensors.input(sin)];
    tensors.write(names.ids, ids);
    tensors.write(names.wanted, wanted);
    if (names.positions !== null) tensors.write(names.positions, range(chunk.start, tokens));
    for (const [g, { rotary, pastEnd, seen, distances, sinks }] of names.geometries.entries()) {
      const ring = cache.ring(row, g);
      const ofChunk = keys[g]!;
      if (rotary !== null) this.#table(g).write(...pair(rotary), 0, range(origin + chunk.start, tokens));
      tensors.write(pastEnd, [ofChunk.past]);
      const { from, until } = seenKeys(ring, chunk, ofChunk);
      tensors.write(seen.tokens, range(0, tokens));
      tensors.write(seen.from, from);
      tensors.write(seen.until, until);
      if (distances !== null) {
        tensors.write(distances.places, keyPlaces(ring, chunk, ofChunk));
        tensors.write(distances.window, [ring.window]);
      }
      if (sinks === null) continue;
      this.#table(g).writeDistance(...pair(sinks.farQuery), 0, ring.window, tokens);
      this.#table(g).write(...pair(sinks.nearSinks), 0, range(origin, ring.sinks));
      const { nearUntil, hidden } = sinkSpans(ring, chunk);
      tensors.write(sinks.nearUntil, nearUntil);
      tensors.write(sinks.hidden, hidden);
      tensors.write(sinks.column, [ofChunk.keys - ring.sinks]);
    }
  }

  #table(geometry: number): RotaryTable {
    const table = this.#resources.rotary[geometry];
    if (!table) throw new RangeError(`geometry ${geometry} has no rotary positions`);
    return table;
  }
}

const range = (start: number, count: number): number[] => Array.from({ length: count }, (_, i) => start + i);
