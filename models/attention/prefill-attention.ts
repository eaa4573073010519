import {
  BATCH,
  type DistanceInputs,
  type PrefillInterface,
  type RotaryInputs,
  type SeenInputs,
  type SinkScoreInputs,
  TOKENS,
  UNSEEN,
} from "../graph-interface.js";
import { KvCodes } from "../keys-values/kv-codes.js";
import type { Geometry } from "../model-shape.js";
import type { Dimension, GraphBuilder, OpenSize, Value } from "../onnx/graph.js";
import {
  type AttentionSizes,
  addedToScores,
  alibiBias,
  attention,
  type CacheShape,
  cacheInputs,
  hiddenIn,
  type LayerAttention,
  layersOf,
  placeOf,
  type QueryKeyValue,
  type Rotary,
  rotaryInputs,
  rotate,
  sinkKeysInput,
  slotsOf,
  softcap,
  sum,
  turnsSinks,
} from "./attention.js";

/** A layer's unrotated keys of the starting tokens, and the same rotated to their positions: [batch, kvHeads, sinks, headDim]. */
interface SinkKeys {
  readonly far: Value;
  readonly near: Value;
}

/** Inputs of one geometry. `mask` is the newest of the masks, of which each layer whose starting tokens are scored apart makes one. */
interface ChunkInputs {
  readonly keys: OpenSize;
  readonly rotary: { readonly inputs: RotaryInputs; readonly positions: Rotary } | null;
  readonly pastEnd: Value;
  readonly sinks: Omit<SinkScoreInputs, "masks"> | null;
  readonly sinkKeys: readonly SinkKeys[];
  readonly seen: SeenInputs;
  readonly distances: DistanceInputs | null;
  readonly masks: Value[];
  mask: Value;
}

/**
 * Attention of a chunk: over [cache as it was before | the chunk], masked by position. With `far`, queries of the chunk
 * stand at different distances from the starting tokens that are turned: within W they meet them where they were written,
 * else at distance exactly W. These few scores are computed apart and enter the one softmax through the mask, in columns
 * whose keys are zero. Of keys and values that are kept as integers the chunk's are made integers first, so that its tokens
 * see of each other what later ones will; the scales stand on the queries and on what comes out, which are fewer.
 */
export class PrefillAttention implements LayerAttention {
  readonly layers: PrefillInterface["layers"][number][] = [];
  readonly #inputs: readonly ChunkInputs[];
  readonly #noKeys: Value;
  readonly #codes: KvCodes | null;

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
    readonly far: boolean,
    /** Unrotated keys are outputs also where no starting tokens are turned. */
    readonly keepsKeys = false,
  ) {
    this.#codes = cache.kv === null ? null : new KvCodes(graph, cache, cache.kv);
    this.#inputs = cache.geometries.map((geometry, i) => this.#geometryInputs(geometry, i));
    const shape = [1, cache.kvHeads, cache.sinks, cache.headDim];
    const apart = this.#inputs.some(({ sinks }) => sinks !== null);
    const zeros = () => graph.op("ConstantOfShape", [graph.constant("int64", [4], shape)]);
    this.#noKeys = apart ? graph.toActivations(zeros()) : "";
  }

  get geometries(): PrefillInterface["geometries"] {
    return this.#inputs.map(({ keys, rotary, pastEnd, sinks, seen, distances, masks }, i) => ({
      slots: slotsOf(i),
      keys,
      rotary: rotary?.inputs ?? null,
      pastEnd,
      seen,
      distances,
      sinks: sinks === null ? null : { ...sinks, masks },
    }));
  }

  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, 0, sum(heads), headDim]);
    const byHead = this.graph.op("Transpose", [this.graph.op("Reshape", [projected, shape])], { perm: [0, 2, 1, 3] });
    return this.graph.split(byHead, 1, heads);
  }

  attend(layer: number, sizes: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph, cache } = this;
    const { heads, kvHeads, headDim } = sizes;
    const { geometry, nth } = placeOf(cache, layer);
    const inputs = this.#inputs[geometry]!;
    const chunk: Dimension[] = [BATCH, kvHeads, TOKENS, headDim];
    const codes = this.#codes;
    const { keys, values, type, shape } = cacheInputs(graph, cache, layer, geometry);
    const kept: Dimension[] = [BATCH, kvHeads, TOKENS, shape[3] ?? headDim];
    const turned = (x: Value): Value =>
      inputs.rotary === null ? x : rotate(graph, x, inputs.rotary.inputs, inputs.rotary.positions, headDim);
    const rotated = turned(key);
    const queries = turned(query);
    const newKeys = codes?.of(rotated, { of: "keys", layers: [layer] }) ?? rotated;
    const newValues = codes?.of(value, { of: "values", layers: [layer] }) ?? value;
    const sinks = inputs.sinkKeys[nth];
    const numbers = (x: Value): Value => codes?.unpacked(x) ?? x;
    const sinkValues =
      sinks === undefined ? [] : [numbers(this.#firstSlots(values, graph.constant("int64", [1], [cache.sinks])))];
    const past = (x: Value): Value => numbers(this.#firstSlots(x, inputs.pastEnd));
    const k = this.#concat([past(keys), newKeys, ...(sinks === undefined ? [] : [this.#noKeys])]);
    const v = this.#concat([past(values), newValues, ...sinkValues]);
    if (sinks !== undefined) this.#scoreSinks(layer, inputs, sizes, { query, queries }, sinks);
    const scaledQueries = codes?.scaled(queries, "keys", layer, heads) ?? queries;
    const attended = attention(graph, [scaledQueries, k, v, inputs.mask], sizes);
    const { window, positions } = cache.geometries[geometry]!;
    const archived = this.keepsKeys && window === "lambda" && (codes !== null || positions.kind === "rotary");
    const keepsRaw = archived || turnsSinks({ window, positions }, cache.sinks);
    this.layers.push({
      geometry,
      keys: { input: keys, output: graph.output(codes?.packed(newKeys) ?? newKeys, type, kept) },
      values: { input: values, output: graph.output(codes?.packed(newValues) ?? newValues, type, kept) },
      rawKey: keepsRaw ? graph.output(key, graph.activations, chunk) : null,
      rawValue: archived && codes !== null ? graph.output(value, graph.activations, chunk) : null,
    });
    const out = codes?.scaled(attended, "values", layer, heads) ?? attended;
    const byToken = graph.op("Transpose", [out], { perm: [0, 2, 1, 3] });
    return graph.op("Reshape", [byToken, graph.constant("int64", [3], [0, 0, heads * headDim])]);
  }

  /** Writes a layer's scores of the starting tokens into the last columns of the mask. */
  #scoreSinks(
    layer: number,
    inputs: ChunkInputs,
    sizes: AttentionSizes,
    { query, queries }: { readonly query: Value; readonly queries: Value },
    keys: SinkKeys,
  ): void {
    const { graph, cache } = this;
    const { heads, kvHeads, headDim, scale, softcap: cap } = sizes;
    if (inputs.sinks === null || inputs.rotary === null) throw new RangeError("a graph without sinks scores none");
    const { nearUntil, hidden, column, farQuery } = inputs.sinks;
    const byKeyHead = graph.constant("int64", [4], [0, kvHeads, -1, headDim]);
    const byQueryHead = graph.constant("int64", [4], [0, heads, -1, cache.sinks]);
    const score = (rotated: Value, against: Value): Value => {
      const product = [graph.op("Reshape", [rotated, byKeyHead]), against];
      const scores = graph.microsoft("FusedMatMul", product, { transB: 1, alpha: { float: scale } });
      return graph.op("Reshape", [graph.toFloat32(scores), byQueryHead]);
    };
    const scores = graph.op("Where", [
      graph.op("Less", [inputs.seen.tokens, nearUntil]),
      score(queries, keys.near),
      score(rotate(graph, query, farQuery, inputs.rotary.positions, headDim), keys.far),
    ]);
    const limited = cap ? softcap(graph, scores, cap) : scores;
    const mask = (name: string): Value => {
      inputs.masks.push(graph.output(name, graph.activations, [BATCH, heads, TOKENS, inputs.keys]));
      return name;
    };
    if (inputs.masks.length === 0) {
      const perHead = graph.constant("int64", [4], [1, heads, 1, 1]);
      inputs.mask = mask(graph.op("Expand", [inputs.mask, perHead], {}, `mask.before.${layer}`));
    }
    const added = addedToScores(graph, graph.op("Add", [limited, hidden]));
    inputs.mask = mask(graph.op("TensorScatter", [inputs.mask, added, column], { axis: -1 }, `mask.${layer}`));
  }

  #geometryInputs(geometry: Geometry, i: number): ChunkInputs {
    const { graph, cache } = this;
    const { positions } = geometry;
    const prefix = `g${i}.`;
    const rotary =
      positions.kind === "rotary" ? { inputs: rotaryInputs(graph, prefix, TOKENS, positions), positions } : null;
    const apart = this.far && turnsSinks(geometry, cache.sinks) ? rotary : null;
    const perSink: Dimension[] = [BATCH, 1, 1, cache.sinks];
    const sinks = apart && {
      farQuery: rotaryInputs(graph, `${prefix}far_`, TOKENS, apart.positions),
      nearSinks: rotaryInputs(graph, `${prefix}sink_`, cache.sinks, apart.positions),
      nearUntil: graph.input(`${prefix}sink_near_until`, "float32", perSink),
      hidden: graph.input(`${prefix}sink_hidden`, "float32", perSink),
      column: graph.input(`${prefix}sink_column`, "int64", [1]),
      keys: sinkKeysInput(graph, prefix, cache, i),
    };
    const pastEnd = graph.hostInput(`${prefix}past_end`, "int64", [1]);
    const keys = `${prefix}keys`;
    const ofKeys = (name: string): Value => graph.input(`${prefix}${name}`, "float32", [BATCH, 1, 1, keys]);
    const seen = {
      tokens: graph.input(`${prefix}tokens`, "float32", [BATCH, 1, TOKENS, 1]),
      from: ofKeys("seen_from"),
      until: ofKeys("seen_until"),
    };
    const alibi = positions.kind === "alibi" ? positions : null;
    const distances = alibi && {
      places: ofKeys("key_places"),
      window: graph.input(`${prefix}window`, "float32", [1]),
    };
    return {
      keys,
      rotary,
      pastEnd,
      sinks,
      sinkKeys: apart && sinks ? this.#sinksByLayer(sinks, apart.positions, layersOf(cache, i)) : [],
      seen,
      distances,
      masks: [],
      mask: alibi && distances ? this.#lowered(seen, distances, alibi.slopes) : this.#masked(seen),
    };
  }

  /** Added to the scores, [batch, 1, tokens, keys]: hides the keys that a token does not see. */
  #masked(seen: SeenInputs): Value {
    const { graph } = this;
    const added = (value: number) => graph.constant(graph.activations, [], [value]);
    return graph.op("Where", [this.#unseen(seen), added(hiddenIn(graph.activations)), added(0)]);
  }

  /** The same with ALiBi, [batch, heads, tokens, keys]. */
  #lowered(seen: SeenInputs, { places, window }: DistanceInputs, slopes: readonly number[]): Value {
    const { graph } = this;
    const distances = graph.op("Min", [graph.op("Sub", [seen.tokens, places]), window]);
    const unseen = graph.constant("float32", [], [UNSEEN]);
    return alibiBias(graph, graph.op("Where", [this.#unseen(seen), unseen, distances]), slopes);
  }

  /** Whether a key is not seen, [batch, 1, tokens, keys]. */
  #unseen({ tokens, from, until }: SeenInputs): Value {
    const { graph } = this;
    return graph.op("Or", [graph.op("Less", [tokens, from]), graph.op("GreaterOrEqual", [tokens, until])]);
  }

  #sinksByLayer(
    { keys, nearSinks }: Pick<SinkScoreInputs, "keys" | "nearSinks">,
    positions: Rotary,
    layers: number,
  ): SinkKeys[] {
    const { graph, cache } = this;
    const byLayer = (x: Value) => graph.multi("Split", [x], layers, { axis: 1, num_outputs: layers });
    const near = byLayer(rotate(graph, keys, nearSinks, positions, cache.headDim));
    return byLayer(keys).map((far, nth) => ({ far, near: near[nth] ?? "" }));
  }

  /** Slots [0, end) of cached keys or values. */
  #firstSlots(x: Value, end: Value): Value {
    const { graph } = this;
    return graph.op("Slice", [x, graph.constant("int64", [1], [0]), end, graph.constant("int64", [1], [2])]);
  }

  #concat(parts: readonly Value[]): Value {
    return this.graph.op("Concat", parts, { axis: 2 });
  }
}
