import {
  type AttentionSizes,
  addedToScores,
  alibiBias,
  attention,
  type CacheShape,
  type LayerAttention,
  layersOf,
  placeOf,
  type QueryKeyValue,
  type Rotary,
  rotaryInputs,
  rotate,
  sinkKeysInput,
  softcap,
  splitAxis1,
  sum,
  turnsSinks,
} from "./attention.js";
import type { Geometry, PrefillInterface, RotaryInputs, SinkScoreInputs } from "./graph-interface.js";
import type { ActivationType, Dimension, GraphBuilder, Value } from "./onnx/graph.js";

/** A layer's unrotated keys of the starting tokens, and the same rotated to their positions: [batch, kvHeads, sinks, headDim]. */
interface SinkKeys {
  readonly far: Value;
  readonly near: Value;
}

/** Inputs of one geometry. `mask` is the newest link of the chain of masks that layers write their scores into. */
interface ChunkInputs {
  readonly rotary: { readonly inputs: RotaryInputs; readonly positions: Rotary } | null;
  readonly past: { readonly start: Value; readonly end: Value } | null;
  readonly sinks: Omit<SinkScoreInputs, "heads"> | null;
  readonly sinkKeys: readonly SinkKeys[];
  readonly distances: Value | null;
  readonly maskInput: Value;
  readonly maskOutputs: Value[];
  mask: Value;
  heads: number;
}

/**
 * Attention of a chunk: over [cache as it was before | the chunk], masked by position. With `far`, queries of the chunk
 * stand at different distances from the starting tokens that are turned: within W they meet them where they were written,
 * else at distance exactly W. These few scores are computed apart and enter the one softmax through the mask, in columns
 * whose keys are zero.
 */
export class PrefillAttention implements LayerAttention {
  readonly layers: PrefillInterface["layers"][number][] = [];
  readonly #inputs: readonly ChunkInputs[];
  readonly #noKeys: Value;

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
    readonly far: boolean,
    /** Unrotated keys are outputs also where no starting tokens are turned. */
    readonly keepsKeys = false,
  ) {
    this.#inputs = cache.geometries.map((geometry, i) => this.#geometryInputs(geometry, i));
    const shape = [1, cache.kvHeads, cache.sinks, cache.headDim];
    const apart = this.#inputs.some(({ sinks }) => sinks !== null);
    const zeros = () => graph.op("ConstantOfShape", [graph.constant("int64", [4], shape)]);
    this.#noKeys = apart ? graph.toActivations(zeros()) : "";
  }

  get geometries(): PrefillInterface["geometries"] {
    return this.#inputs.map(({ rotary, past, sinks, distances, maskInput, maskOutputs, heads }) => ({
      rotary: rotary?.inputs ?? null,
      past,
      mask: distances === null ? { input: maskInput, outputs: maskOutputs } : null,
      distances,
      sinks: sinks === null ? null : { ...sinks, heads },
    }));
  }

  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, 0, sum(heads), headDim]);
    const byHead = this.graph.op("Transpose", [this.graph.op("Reshape", [projected, shape])], { perm: [0, 2, 1, 3] });
    return splitAxis1(this.graph, byHead, heads);
  }

  attend(layer: number, sizes: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph, cache } = this;
    const { heads, kvHeads, headDim } = sizes;
    const { geometry, nth } = placeOf(cache, layer);
    const inputs = this.#inputs[geometry]!;
    const buffer: Dimension[] = ["batch", kvHeads, `g${geometry}.slots`, headDim];
    const chunk: Dimension[] = ["batch", kvHeads, "tokens", headDim];
    const keys = graph.input(`keys.${layer}`, graph.activations, buffer);
    const values = graph.input(`values.${layer}`, graph.activations, buffer);
    const turned = (x: Value): Value =>
      inputs.rotary === null ? x : rotate(graph, x, inputs.rotary.inputs, inputs.rotary.positions, headDim);
    const newKeys = turned(key);
    const queries = turned(query);
    const sinks = inputs.sinkKeys[nth];
    const sinkValues =
      sinks === undefined
        ? []
        : [this.#slice(values, graph.constant("int64", [1], [0]), graph.constant("int64", [1], [cache.sinks]))];
    const k = this.#concat([this.#past(keys, inputs), newKeys, ...(sinks === undefined ? [] : [this.#noKeys])]);
    const v = this.#concat([this.#past(values, inputs), value, ...sinkValues]);
    if (sinks !== undefined) this.#scoreSinks(layer, inputs, sizes, { query, queries }, sinks);
    const attended = attention(graph, [queries, k, v, inputs.mask], sizes);
    graph.output(newKeys, graph.activations, chunk);
    graph.output(value, graph.activations, chunk);
    const { window, positions } = cache.geometries[geometry]!;
    const archived = this.keepsKeys && window === "lambda" && positions.kind === "rotary";
    const keepsRaw = archived || turnsSinks({ window, positions }, cache.sinks);
    this.layers.push({
      geometry,
      keys: { input: keys, output: newKeys },
      values: { input: values, output: value },
      rawKey: keepsRaw ? graph.output(key, graph.activations, chunk) : null,
    });
    const byToken = graph.op("Transpose", [attended], { perm: [0, 2, 1, 3] });
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
    const { near, hidden, column, farQuery } = inputs.sinks;
    const byKeyHead = graph.constant("int64", [4], [0, kvHeads, -1, headDim]);
    const byQueryHead = graph.constant("int64", [4], [0, heads, -1, cache.sinks]);
    const score = (rotated: Value, against: Value): Value => {
      const product = [graph.op("Reshape", [rotated, byKeyHead]), against];
      const scores = graph.microsoft("FusedMatMul", product, { transB: 1, alpha: { float: scale } });
      return graph.op("Reshape", [graph.toFloat32(scores), byQueryHead]);
    };
    const scores = graph.op("Where", [
      near,
      score(queries, keys.near),
      score(rotate(graph, query, farQuery, inputs.rotary.positions, headDim), keys.far),
    ]);
    const limited = cap ? softcap(graph, scores, cap) : scores;
    const shape: Dimension[] = ["batch", heads, "tokens", "keys"];
    const name = `mask.${layer}`;
    const added = addedToScores(graph, graph.op("Add", [limited, hidden]));
    graph.op("TensorScatter", [inputs.mask, added, column], { axis: -1 }, name);
    inputs.maskOutputs.push(graph.output(name, graph.activations, shape));
    inputs.mask = name;
    inputs.heads = heads;
  }

  #geometryInputs(geometry: Geometry, i: number): ChunkInputs {
    const { graph, cache } = this;
    const { positions } = geometry;
    const prefix = `g${i}.`;
    const rotary =
      positions.kind === "rotary" ? { inputs: rotaryInputs(graph, prefix, "tokens", positions), positions } : null;
    const apart = this.far && turnsSinks(geometry, cache.sinks) ? rotary : null;
    const perSink: Dimension[] = ["batch", 1, "tokens", cache.sinks];
    const sinks = apart && {
      farQuery: rotaryInputs(graph, `${prefix}far_`, "tokens", apart.positions),
      nearSinks: rotaryInputs(graph, `${prefix}sink_`, cache.sinks, apart.positions),
      near: graph.input(`${prefix}sink_near`, "bool", perSink),
      hidden: graph.input(`${prefix}sink_hidden`, "float32", perSink),
      column: graph.input(`${prefix}sink_column`, "int64", [1]),
      keys: sinkKeysInput(graph, prefix, cache, i),
    };
    const past =
      apart === null
        ? {
            start: graph.input(`${prefix}past_start`, "int64", [1]),
            end: graph.input(`${prefix}past_end`, "int64", [1]),
          }
        : null;
    const byPosition = (name: string, type: ActivationType, heads: Dimension): Value =>
      graph.input(`${prefix}${name}`, type, ["batch", heads, "tokens", `${prefix}keys`]);
    const alibi = positions.kind === "alibi";
    const distances = alibi ? byPosition("distances", "float32", 1) : null;
    const maskInput = alibi ? "" : byPosition("mask", graph.activations, `${prefix}mask_heads`);
    return {
      rotary,
      past,
      sinks,
      sinkKeys: apart && sinks ? this.#sinksByLayer(sinks, apart.positions, layersOf(cache, i)) : [],
      distances,
      maskInput,
      maskOutputs: [],
      mask: alibi && distances !== null ? alibiBias(graph, distances, positions.slopes) : maskInput,
      heads: 1,
    };
  }

  #sinksByLayer({ keys, nearSinks }: Omit<SinkScoreInputs, "heads">, positions: Rotary, layers: number): SinkKeys[] {
    const { graph, cache } = this;
    const byLayer = (x: Value) => graph.multi("Split", [x], layers, { axis: 1, num_outputs: layers });
    const near = byLayer(rotate(graph, keys, nearSinks, positions, cache.headDim));
    return byLayer(keys).map((far, nth) => ({ far, near: near[nth] ?? "" }));
  }

  /** The cached keys or values that a chunk attends to. */
  #past(x: Value, { past }: ChunkInputs): Value {
    return past === null ? x : this.#slice(x, past.start, past.end);
  }

  #slice(x: Value, start: Value, end: Value): Value {
    return this.graph.op("Slice", [x, start, end, this.graph.constant("int64", [1], [2])]);
  }

  #concat(parts: readonly Value[]): Value {
    return this.graph.op("Concat", parts, { axis: 2 });
  }
}
