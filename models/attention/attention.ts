import { BATCH, type RotaryInputs } from "../graph-interface.js";
import { type KvFormat, kvElement, kvType, kvWidth } from "../keys-values/kv-format.js";
import type { Geometry, ModelShape, Positions } from "../model-shape.js";
import type { ActivationType, Dimension, ElementType, GraphBuilder, OpenSize, Value } from "../onnx/graph.js";

/** The lowest finite number of float16. */
const LOWEST_F16 = -65504;

export type Rotary = Extract<Positions, { kind: "rotary" }>;

/** Sizes of one layer's attention. */
export interface AttentionSizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Scores are multiplied by this; usually 1 / sqrt(headDim). */
  readonly scale: number;
  /** Scores are limited to +-softcap by tanh before they are masked; null or left out: not. */
  readonly softcap?: number | null;
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
  attend(layer: number, sizes: AttentionSizes, qkv: QueryKeyValue): Value;
}

/** The cache that a graph works on. */
export interface CacheShape
  extends Pick<ModelShape, "layers" | "kvHeads" | "headDim" | "geometries" | "layerGeometries"> {
  readonly sinks: number;
  /** How keys and values are kept as integers; null: as numbers of the activations' type. */
  readonly kv: KvFormat | null;
}

/** The layers that have a geometry. */
export const layersWith = ({ layerGeometries }: Pick<CacheShape, "layerGeometries">, geometry: number): number[] =>
  [...layerGeometries.keys()].filter((layer) => layerGeometries[layer] === geometry);

/** How many layers have a geometry. */
export const layersOf = (shape: Pick<CacheShape, "layerGeometries">, geometry: number): number =>
  layersWith(shape, geometry).length;

/** The geometry of a layer, and which of that geometry's layers it is. */
export function placeOf({ layerGeometries }: CacheShape, layer: number): { geometry: number; nth: number } {
  const geometry = layerGeometries[layer];
  if (geometry === undefined) throw new RangeError(`the model says nothing of layer ${layer}'s geometry`);
  return { geometry, nth: layersOf({ layerGeometries: layerGeometries.slice(0, layer) }, geometry) };
}

/**
 * Whether starting tokens are kept unrotated to be turned to where they must stand: only where a window limits the
 * distances of rotary positions.
 */
export const turnsSinks = ({ window, positions }: Geometry, sinks: number): boolean =>
  sinks > 0 && window === "lambda" && positions.kind === "rotary";

export function rotaryInputs(
  graph: GraphBuilder,
  prefix: string,
  positions: Dimension,
  { rotaryDim }: Rotary,
): RotaryInputs {
  const shape = [BATCH, positions, rotaryDim / 2];
  return { cos: graph.input(`${prefix}cos`, "float32", shape), sin: graph.input(`${prefix}sin`, "float32", shape) };
}

/** Slots of the buffers of a geometry's layers. */
export const slotsOf = (geometry: number): OpenSize => `g${geometry}.slots`;

/** A layer's buffers in the cache. */
export function cacheInputs(
  graph: GraphBuilder,
  { kvHeads, headDim, kv }: CacheShape,
  layer: number,
  geometry: number,
): { readonly keys: Value; readonly values: Value; readonly type: ElementType; readonly shape: readonly Dimension[] } {
  const kept = kvType(kv, graph.activations);
  const [type, shape] = [kvElement(kept), [BATCH, kvHeads, slotsOf(geometry), kvWidth(kept, headDim)]];
  const buffer = (name: string): Value => graph.input(`${name}.${layer}`, type, shape);
  return { keys: buffer("keys"), values: buffer("values"), type, shape };
}

/** Unrotated keys of the starting tokens in all layers of a geometry. */
export const sinkKeysInput = (graph: GraphBuilder, prefix: string, cache: CacheShape, geometry: number): Value =>
  graph.input(`${prefix}sink_keys`, graph.activations, [
    BATCH,
    layersOf(cache, geometry) * cache.kvHeads,
    cache.sinks,
    cache.headDim,
  ]);

export const rotate = (
  graph: GraphBuilder,
  x: Value,
  { cos, sin }: RotaryInputs,
  { rotaryDim, interleaved }: Rotary,
  headDim: number,
): Value =>
  graph.op("RotaryEmbedding", [x, graph.toActivations(cos), graph.toActivations(sin)], {
    ...(rotaryDim === headDim ? {} : { rotary_embedding_dim: rotaryDim }),
    ...(interleaved ? { interleaved: 1 } : {}),
  });

/** What ALiBi adds to the scores, [batch, heads, tokens, keys], from distances [batch, 1, tokens, keys]. */
export function alibiBias(graph: GraphBuilder, distances: Value, slopes: readonly number[]): Value {
  const lowered = slopes.map((slope) => -slope);
  const bias = graph.op("Mul", [distances, graph.constant("float32", [1, slopes.length, 1, 1], lowered)]);
  return addedToScores(graph, bias);
}

/** The same of each geometry, from its own distances; null where it has none. */
export const alibiBiases = (
  graph: GraphBuilder,
  { geometries }: Pick<CacheShape, "geometries">,
  inputs: readonly { readonly distances: Value | null }[],
): (Value | null)[] =>
  inputs.map(({ distances }, i) => {
    const positions = geometries[i]?.positions;
    return distances === null || positions?.kind !== "alibi" ? null : alibiBias(graph, distances, positions.slopes);
  });

/** Added to the score of a key that is not seen: finite in each type. */
export const HIDDEN = -3e38;
export const hiddenIn = (type: ActivationType): number => (type === "float16" ? LOWEST_F16 : HIDDEN);

/**
 * What is added to scores, from float32 to the type of the activations. Numbers that hide a key stay finite: kernels that
 * work on some keys at a time make NaN of a row whose first keys are all at minus infinity.
 */
export function addedToScores(graph: GraphBuilder, x: Value): Value {
  if (graph.activations !== "float16") return graph.toActivations(x);
  return graph.toActivations(graph.op("Max", [x, graph.constant("float32", [1], [LOWEST_F16])]));
}

/** ONNX Attention (opset 24): scaled, limited, masked, in this order. */
export function attention(
  graph: GraphBuilder,
  inputs: readonly Value[],
  { scale, softcap: cap }: Pick<AttentionSizes, "scale" | "softcap">,
): Value {
  return graph.op("Attention", inputs, { scale: { float: scale }, ...(cap ? { softcap: { float: cap } } : {}) });
}

export const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** cap * tanh(x / cap) of float32, as Gemma 2 limits scores and logits. */
export function softcap(graph: GraphBuilder, x: Value, cap: number): Value {
  const by = (factor: number, of: Value) => graph.op("Mul", [of, graph.constant("float32", [1], [factor])]);
  return by(cap, graph.op("Tanh", [by(1 / cap, x)]));
}
