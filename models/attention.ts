import type { Geometry, RotaryInputs } from "./graph-interface.js";
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

/** Sizes of the cache that a graph works on. */
export interface CacheShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly sinks: number;
}

export function rotaryInputs(
  graph: GraphBuilder,
  prefix: string,
  positions: Dimension,
  { rotaryDim }: Geometry,
): RotaryInputs {
  const shape = ["batch", positions, rotaryDim / 2];
  return { cos: graph.input(`${prefix}cos`, "float32", shape), sin: graph.input(`${prefix}sin`, "float32", shape) };
}

export const sinkKeysInput = (graph: GraphBuilder, { layers, kvHeads, sinks, headDim }: CacheShape): Value =>
  graph.input("sink_keys", "float32", ["batch", layers * kvHeads, sinks, headDim]);

export const rotate = (graph: GraphBuilder, x: Value, { cos, sin }: RotaryInputs): Value =>
  graph.op("RotaryEmbedding", [x, cos, sin]);

/** Cuts the second axis into pieces of the given sizes. */
export const splitAxis1 = (graph: GraphBuilder, x: Value, sizes: readonly number[]): Value[] =>
  graph.multi("Split", [x, graph.constant("int64", [sizes.length], sizes)], sizes.length, { axis: 1 });

export const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
