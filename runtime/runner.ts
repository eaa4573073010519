import type { CompiledModel } from "../models/compile.js";
import { chunkMask, planChunk } from "./chunk.js";
import { DecodeGraph } from "./decode-graph.js";
import type { GraphResources } from "./graph-resources.js";
import { LambdaCache, type LambdaGeometry } from "./lambda-cache.js";
import { PrepackedWeights } from "./ort/session.js";
import { PrefillGraph } from "./prefill-graph.js";
import { RotaryTable } from "./rotary-table.js";
import { openWeights } from "./weights.js";

export interface RunnerOptions {
  /** The server's window, which longrope's choice of frequencies depends on. */
  readonly window: number;
  readonly threads: number;
  readonly spin?: boolean;
}

/**
 * Runs a model's graphs over lambda caches: the only place where tensors meet sequences. Graphs are loaded when a cache
 * first needs them. A run that fails leaves counts as they were, so it can be run again. `origin` is the position of a
 * text's first token, 0 but for tests of far positions.
 */
export class Runner implements Disposable {
  readonly #resources: GraphResources;
  readonly #decode = new Map<number, DecodeGraph>();
  readonly #prefill = new Map<string, PrefillGraph>();

  constructor(
    readonly model: CompiledModel,
    { window, threads, spin = true }: RunnerOptions,
  ) {
    this.#resources = {
      model,
      weights: openWeights(model.weights),
      prepacked: new PrepackedWeights(),
      rotary: model.shape.geometries.map(({ rope, rotaryDim }) => new RotaryTable(rope, rotaryDim, window)),
      threads,
      spin,
    };
  }

  /** Loads the graphs that work on a cache. */
  load({ window, sinks }: LambdaGeometry): void {
    const loaded = this.#decode.size + this.#prefill.size;
    this.#decodeGraph(sinks);
    this.#prefillGraph(sinks, false);
    if (sinks > 0 && window < Number.POSITIVE_INFINITY) this.#prefillGraph(sinks, true);
    if (this.#decode.size + this.#prefill.size > loaded) this.#resources.weights.forgetPages();
  }

  /** An empty cache; the graphs that work on it are loaded. */
  openCache(geometry: LambdaGeometry): LambdaCache {
    this.load(geometry);
    return new LambdaCache(this.model.shape, geometry);
  }

  closeCache(cache: LambdaCache): void {
    for (const graph of this.#decode.values()) graph.forget(cache);
    cache[Symbol.dispose]();
  }

  /** Runs one token in each of the rows [first, first + tokens.length): logits [tokens.length, vocab], valid until the next run. */
  decode(cache: LambdaCache, first: number, tokens: readonly number[], origin = 0): Float32Array {
    for (const i of tokens.keys()) cache.reserve(first + i, 1);
    const logits = this.#decodeGraph(cache.sinks).run(cache, first, tokens, origin);
    for (const i of tokens.keys()) cache.advance(first + i);
    return logits;
  }

  /**
   * Runs a chunk of at most W tokens of one row and stores its keys and values: logits [wanted.length, vocab] of the
   * wanted tokens of the chunk (0-based).
   */
  prefill(
    cache: LambdaCache,
    row: number,
    ids: ArrayLike<number>,
    wanted: readonly number[] = [],
    origin = 0,
  ): Float32Array {
    if (ids.length > cache.window) throw new RangeError(`a chunk of ${ids.length} tokens is longer than the window`);
    cache.reserve(row, ids.length);
    const chunk = planChunk(cache, row, ids.length);
    const mask = chunkMask(cache, row, chunk);
    return this.#prefillGraph(cache.sinks, chunk.far).run(cache, row, { chunk, mask, ids, wanted, origin });
  }

  [Symbol.dispose](): void {
    for (const graph of [...this.#decode.values(), ...this.#prefill.values()]) graph[Symbol.dispose]();
    this.#resources.prepacked[Symbol.dispose]();
    this.#resources.weights[Symbol.dispose]();
  }

  #decodeGraph(sinks: number): DecodeGraph {
    return remembered(this.#decode, sinks, () => new DecodeGraph(this.#resources, this.model.decode({ sinks })));
  }

  #prefillGraph(sinks: number, far: boolean): PrefillGraph {
    return remembered(
      this.#prefill,
      `${sinks}${far}`,
      () => new PrefillGraph(this.#resources, this.model.prefill({ sinks, far })),
    );
  }
}

function remembered<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const known = map.get(key);
  if (known !== undefined) return known;
  const value = make();
  map.set(key, value);
  return value;
}
