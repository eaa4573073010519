import type { DecodeInterface, Geometry, PrefillInterface, RotaryInputs } from "./graph-interface.js";
import type { Dimension, GraphBuilder, Value } from "./onnx/graph.js";

/** Sizes of one layer's attention. */
export interface AttentionSizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Scores are multiplied by this; usually 1 / sqrt(headDim). */
  readonly scale: number;
}

/** Queries, keys and values of a layer, each [batch, heads, tokens, headDim], before any rotation. */
export interface QueryKeyValue {
  readonly query: Value;
  readonly key: Value;
  readonly value: Value;
}

/** Attention of one layer over its cache: [batch, tokens, heads * headDim]. Layers are given in order. */
export interface LayerAttention {
  /** Cuts [batch, tokens, sum of heads * headDim] into [batch, heads, tokens, headDim] each. */
  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[];
  attend(layer: number, geometry: number, sizes: AttentionSizes, qkv: QueryKeyValue): Value;
}

interface CacheShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly sinks: number;
}

/**
 * Lambda attention of one token per row, on a cache of [sinks | ring] slots (DESIGN: "LM-Infinite, exactly"). Ring keys
 * stand rotated at their own positions; the starting tokens are rotated anew to max(s, t - W) and written over their
 * slots, so that one ordinary attention over the slots in use has every key at its right distance.
 */
export class DecodeAttention implements LayerAttention {
  readonly sinkKeys: Value | null;
  readonly geometries: DecodeInterface["geometries"][number][] = [];
  readonly layers: DecodeInterface["layers"][number][] = [];
  readonly #rotatedSinks: readonly Value[];

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
    geometries: readonly Geometry[],
  ) {
    this.geometries = geometries.map((geometry, i) => ({
      rotary: rotaryInputs(graph, `g${i}.`, 1, geometry),
      sinkRotary: cache.sinks > 0 ? rotaryInputs(graph, `g${i}.sink_`, cache.sinks, geometry) : null,
      writeIndex: graph.input(`g${i}.write_index`, "int64", ["batch"]),
      length: graph.input(`g${i}.length`, "int64", ["batch"]),
    }));
    this.sinkKeys = cache.sinks > 0 ? sinkKeysInput(graph, cache) : null;
    this.#rotatedSinks = this.#rotateSinks();
  }

  /** With one token, [tokens, heads] and [heads, tokens] are the same memory. */
  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, sum(heads), 1, headDim]);
    return splitAxis1(this.graph, this.graph.op("Reshape", [projected, shape]), heads);
  }

  attend(layer: number, geometry: number, { heads, kvHeads, headDim, scale }: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph } = this;
    const inputs = this.geometries[geometry];
    if (inputs === undefined) throw new RangeError(`layer ${layer} names geometry ${geometry}`);
    const shape: Dimension[] = ["batch", kvHeads, "slots", headDim];
    const keys = graph.input(`keys.${layer}`, "float32", shape);
    const values = graph.input(`values.${layer}`, "float32", shape);
    const keyOutputs: Value[] = [];
    const scatter = (buffer: Value, update: Value, at: Value | null, name: string): Value => {
      graph.op("TensorScatter", at === null ? [buffer, update] : [buffer, update, at], { axis: -2 }, name);
      return graph.output(name, "float32", shape);
    };
    let current = keys;
    const sinks = this.#rotatedSinks[layer];
    if (sinks !== undefined) {
      current = scatter(current, sinks, null, `keys.${layer}.sinks`);
      keyOutputs.push(current);
    }
    current = scatter(current, rotate(graph, key, inputs.rotary), inputs.writeIndex, `keys.${layer}.out`);
    keyOutputs.push(current);
    const valueOutput = scatter(values, value, inputs.writeIndex, `values.${layer}.out`);
    const queries = rotate(graph, query, inputs.rotary);
    const attended = graph.op("Attention", [queries, current, valueOutput, "", "", "", inputs.length], { scale: { float: scale } });
    this.layers.push({
      geometry,
      keys: { input: keys, outputs: keyOutputs },
      values: { input: values, outputs: [valueOutput] },
      rawKey: sinks === undefined ? null : graph.output(key, "float32", ["batch", kvHeads, 1, headDim]),
    });
    return graph.op("Reshape", [attended, graph.constant("int64", [3], [0, 1, heads * headDim])]);
  }

  /** One rotation for the starting tokens of all layers, which stand at the same positions. */
  #rotateSinks(): Value[] {
    const rotary = this.geometries[0]?.sinkRotary;
    if (this.sinkKeys === null || rotary === undefined || rotary === null) return [];
    const rotated = this.graph.op("RotaryEmbedding", [this.sinkKeys, rotary.cos, rotary.sin]);
    return this.graph.multi("Split", [rotated], this.cache.layers, { axis: 1, num_outputs: this.cache.layers });
  }
}

/**
 * Lambda attention of a chunk: over [cache as it was before | the chunk], masked by position. With `far`, queries of the
 * chunk stand at different distances from the starting tokens: those within W meet them where they were written, the
 * others at distance exactly W. Both score in one softmax by doubling the head size: Q' = [R_t q ; R_W q],
 * K' = [R_s k ; 0] for near keys and [0 ; k] for far starting tokens.
 */
export class PrefillAttention implements LayerAttention {
  readonly sinkKeys: Value | null;
  readonly geometries: PrefillInterface["geometries"][number][];
  readonly layers: PrefillInterface["layers"][number][] = [];
  readonly #nearSinks: readonly Value[];
  readonly #farSinks: readonly Value[];

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
    geometries: readonly Geometry[],
    readonly far: boolean,
  ) {
    this.geometries = geometries.map((geometry, i) => ({
      rotary: rotaryInputs(graph, `g${i}.`, "tokens", geometry),
      far: far
        ? {
            query: rotaryInputs(graph, `g${i}.far_`, "tokens", geometry),
            sinks: rotaryInputs(graph, `g${i}.sink_`, cache.sinks, geometry),
          }
        : null,
      pastStart: graph.input(`g${i}.past_start`, "int64", [1]),
      pastEnd: graph.input(`g${i}.past_end`, "int64", [1]),
      mask: graph.input(`g${i}.mask`, "float32", ["batch", 1, "tokens", `g${i}.keys`]),
    }));
    this.sinkKeys = far ? sinkKeysInput(graph, cache) : null;
    const perLayer = (x: Value) => graph.multi("Split", [x], cache.layers, { axis: 1, num_outputs: cache.layers });
    const rotary = this.geometries[0]?.far?.sinks;
    this.#farSinks = this.sinkKeys === null ? [] : perLayer(this.sinkKeys);
    this.#nearSinks =
      this.sinkKeys === null || rotary === undefined
        ? []
        : perLayer(graph.op("RotaryEmbedding", [this.sinkKeys, rotary.cos, rotary.sin]));
  }

  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, 0, sum(heads), headDim]);
    const byHead = this.graph.op("Transpose", [this.graph.op("Reshape", [projected, shape])], { perm: [0, 2, 1, 3] });
    return splitAxis1(this.graph, byHead, heads);
  }

  attend(layer: number, geometry: number, { heads, kvHeads, headDim, scale }: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph } = this;
    const inputs = this.geometries[geometry];
    if (inputs === undefined) throw new RangeError(`layer ${layer} names geometry ${geometry}`);
    const buffer: Dimension[] = ["batch", kvHeads, "slots", headDim];
    const chunk: Dimension[] = ["batch", kvHeads, "tokens", headDim];
    const keys = graph.input(`keys.${layer}`, "float32", buffer);
    const values = graph.input(`values.${layer}`, "float32", buffer);
    const past = (x: Value): Value =>
      graph.op("Slice", [x, inputs.pastStart, inputs.pastEnd, graph.constant("int64", [1], [2])]);
    const newKeys = rotate(graph, key, inputs.rotary);
    const queries = rotate(graph, query, inputs.rotary);
    let [q, k, v] = [queries, this.#concat([past(keys), newKeys]), this.#concat([past(values), value])];
    const near = this.#nearSinks[layer];
    const farSinks = this.#farSinks[layer];
    if (inputs.far !== null && near !== undefined && farSinks !== undefined) {
      const farQueries = rotate(graph, query, inputs.far.query);
      const sinkValues = graph.op("Slice", [values, ...[0, this.cache.sinks, 2].map((n) => graph.constant("int64", [1], [n]))]);
      q = graph.op("Concat", [queries, farQueries], { axis: -1 });
      k = this.#concat([this.#pad(this.#concat([near, k]), 0, headDim), this.#pad(farSinks, headDim, 0)]);
      v = this.#concat([sinkValues, v, sinkValues]);
    }
    const attended = graph.op("Attention", [q, k, v, inputs.mask], { scale: { float: scale } });
    graph.output(newKeys, "float32", chunk);
    graph.output(value, "float32", chunk);
    this.layers.push({
      geometry,
      keys: { input: keys, output: newKeys },
      values: { input: values, output: value },
      rawKey: this.cache.sinks > 0 ? graph.output(key, "float32", chunk) : null,
    });
    const byToken = graph.op("Transpose", [attended], { perm: [0, 2, 1, 3] });
    return graph.op("Reshape", [byToken, graph.constant("int64", [3], [0, 0, heads * headDim])]);
  }

  #concat(parts: readonly Value[]): Value {
    return this.graph.op("Concat", parts, { axis: 2 });
  }

  #pad(x: Value, before: number, after: number): Value {
    return this.graph.op("Pad", [x, this.graph.constant("int64", [8], [0, 0, 0, before, 0, 0, 0, after])]);
  }
}

function rotaryInputs(graph: GraphBuilder, prefix: string, positions: Dimension, { rotaryDim }: Geometry): RotaryInputs {
  const shape = ["batch", positions, rotaryDim / 2];
  return { cos: graph.input(`${prefix}cos`, "float32", shape), sin: graph.input(`${prefix}sin`, "float32", shape) };
}

const sinkKeysInput = (graph: GraphBuilder, { layers, kvHeads, sinks, headDim }: CacheShape): Value =>
  graph.input("sink_keys", "float32", ["batch", layers * kvHeads, sinks, headDim]);

const rotate = (graph: GraphBuilder, x: Value, { cos, sin }: RotaryInputs): Value => graph.op("RotaryEmbedding", [x, cos, sin]);

const splitAxis1 = (graph: GraphBuilder, x: Value, sizes: readonly number[]): Value[] =>
  graph.multi("Split", [x, graph.constant("int64", [sizes.length], sizes)], sizes.length, { axis: 1 });

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
