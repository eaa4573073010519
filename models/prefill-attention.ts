import {
  type AttentionSizes,
  type CacheShape,
  type LayerAttention,
  type QueryKeyValue,
  rotaryInputs,
  rotate,
  sinkKeysInput,
  splitAxis1,
  sum,
} from "./attention.js";
import type { Geometry, PrefillInterface, RotaryInputs, SinkScoreInputs } from "./graph-interface.js";
import type { Dimension, GraphBuilder, Value } from "./onnx/graph.js";

/** A layer's unrotated keys of the starting tokens, and the same rotated to their positions: [batch, kvHeads, sinks, headDim]. */
interface SinkKeys {
  readonly far: Value;
  readonly near: Value;
}

/** Inputs of one geometry. `mask` is the newest link of the chain of masks that layers write their scores into. */
interface ChunkInputs {
  readonly rotary: RotaryInputs;
  readonly past: { readonly start: Value; readonly end: Value } | null;
  readonly sinks: Omit<SinkScoreInputs, "heads"> | null;
  readonly maskInput: Value;
  readonly maskOutputs: Value[];
  mask: Value;
  heads: number;
}

/**
 * Lambda attention of a chunk: over [cache as it was before | the chunk], masked by position. With `far`, queries of the
 * chunk stand at different distances from the starting tokens: within W they meet them where they were written, else at
 * distance exactly W. These few scores are computed apart and enter the one softmax through the mask, in columns whose
 * keys are zero.
 */
export class PrefillAttention implements LayerAttention {
  readonly sinkKeys: Value | null;
  readonly layers: PrefillInterface["layers"][number][] = [];
  readonly #inputs: readonly ChunkInputs[];
  readonly #sinks: readonly SinkKeys[];
  readonly #noKeys: Value;

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
    geometries: readonly Geometry[],
    readonly far: boolean,
  ) {
    this.#inputs = geometries.map((geometry, i) => this.#geometryInputs(`g${i}.`, geometry));
    this.sinkKeys = far ? sinkKeysInput(graph, cache) : null;
    this.#sinks = this.#sinksByLayer();
    const shape = [1, cache.kvHeads, cache.sinks, cache.headDim];
    this.#noKeys = far ? graph.op("ConstantOfShape", [graph.constant("int64", [4], shape)]) : "";
  }

  get geometries(): PrefillInterface["geometries"] {
    return this.#inputs.map(({ rotary, past, sinks, maskInput, maskOutputs, heads }) => ({
      rotary,
      past,
      mask: { input: maskInput, outputs: maskOutputs },
      sinks: sinks === null ? null : { ...sinks, heads },
    }));
  }

  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, 0, sum(heads), headDim]);
    const byHead = this.graph.op("Transpose", [this.graph.op("Reshape", [projected, shape])], { perm: [0, 2, 1, 3] });
    return splitAxis1(this.graph, byHead, heads);
  }

  attend(layer: number, geometry: number, sizes: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph, cache } = this;
    const { heads, kvHeads, headDim, scale } = sizes;
    const inputs = this.#inputs[geometry];
    if (inputs === undefined) throw new RangeError(`layer ${layer} names geometry ${geometry}`);
    const buffer: Dimension[] = ["batch", kvHeads, "slots", headDim];
    const chunk: Dimension[] = ["batch", kvHeads, "tokens", headDim];
    const keys = graph.input(`keys.${layer}`, "float32", buffer);
    const values = graph.input(`values.${layer}`, "float32", buffer);
    const newKeys = rotate(graph, key, inputs.rotary);
    const sinks = this.#sinks[layer];
    const sinkValues =
      sinks === undefined
        ? []
        : [this.#slice(values, graph.constant("int64", [1], [0]), graph.constant("int64", [1], [cache.sinks]))];
    const k = this.#concat([this.#past(keys, inputs), newKeys, ...(sinks === undefined ? [] : [this.#noKeys])]);
    const v = this.#concat([this.#past(values, inputs), value, ...sinkValues]);
    if (sinks !== undefined) this.#scoreSinks(layer, inputs, sizes, query, sinks);
    const attended = graph.op("Attention", [rotate(graph, query, inputs.rotary), k, v, inputs.mask], {
      scale: { float: scale },
    });
    graph.output(newKeys, "float32", chunk);
    graph.output(value, "float32", chunk);
    this.layers.push({
      geometry,
      keys: { input: keys, output: newKeys },
      values: { input: values, output: value },
      rawKey: cache.sinks > 0 ? graph.output(key, "float32", chunk) : null,
    });
    const byToken = graph.op("Transpose", [attended], { perm: [0, 2, 1, 3] });
    return graph.op("Reshape", [byToken, graph.constant("int64", [3], [0, 0, heads * headDim])]);
  }

  /** Writes a layer's scores of the starting tokens into the last columns of the mask. */
  #scoreSinks(layer: number, inputs: ChunkInputs, sizes: AttentionSizes, query: Value, keys: SinkKeys): void {
    const { graph, cache } = this;
    const { heads, kvHeads, headDim, scale } = sizes;
    if (inputs.sinks === null) throw new RangeError("a graph without sinks scores none");
    const { near, hidden, farQuery } = inputs.sinks;
    const byKeyHead = graph.constant("int64", [4], [0, kvHeads, -1, headDim]);
    const byQueryHead = graph.constant("int64", [4], [0, heads, -1, cache.sinks]);
    const score = (rotated: Value, against: Value): Value => {
      const product = [graph.op("Reshape", [rotated, byKeyHead]), against];
      return graph.op("Reshape", [
        graph.microsoft("FusedMatMul", product, { transB: 1, alpha: { float: scale } }),
        byQueryHead,
      ]);
    };
    const scores = graph.op("Where", [
      near,
      score(rotate(graph, query, inputs.rotary), keys.near),
      score(rotate(graph, query, farQuery), keys.far),
    ]);
    const shape: Dimension[] = ["batch", heads, "tokens", "keys"];
    const at = graph.op("Sub", [
      graph.op("Shape", [inputs.maskInput], { start: 3, end: 4 }),
      graph.constant("int64", [1], [cache.sinks]),
    ]);
    const name = `mask.${layer}`;
    graph.op("TensorScatter", [inputs.mask, graph.op("Add", [scores, hidden]), at], { axis: -1 }, name);
    inputs.maskOutputs.push(graph.output(name, "float32", shape));
    inputs.mask = name;
    inputs.heads = heads;
  }

  #geometryInputs(prefix: string, geometry: Geometry): ChunkInputs {
    const { graph, cache, far } = this;
    const rotary = rotaryInputs(graph, prefix, "tokens", geometry);
    const perSink: Dimension[] = ["batch", 1, "tokens", cache.sinks];
    const mask = graph.input(`${prefix}mask`, "float32", ["batch", `${prefix}mask_heads`, "tokens", `${prefix}keys`]);
    return {
      rotary,
      past: far
        ? null
        : {
            start: graph.input(`${prefix}past_start`, "int64", [1]),
            end: graph.input(`${prefix}past_end`, "int64", [1]),
          },
      sinks: far
        ? {
            farQuery: rotaryInputs(graph, `${prefix}far_`, "tokens", geometry),
            nearSinks: rotaryInputs(graph, `${prefix}sink_`, cache.sinks, geometry),
            near: graph.input(`${prefix}sink_near`, "bool", perSink),
            hidden: graph.input(`${prefix}sink_hidden`, "float32", perSink),
          }
        : null,
      maskInput: mask,
      maskOutputs: [],
      mask,
      heads: 1,
    };
  }

  #sinksByLayer(): SinkKeys[] {
    const { graph, cache, sinkKeys } = this;
    const rotary = this.#inputs[0]?.sinks?.nearSinks;
    if (sinkKeys === null || rotary === undefined) return [];
    const byLayer = (x: Value) => graph.multi("Split", [x], cache.layers, { axis: 1, num_outputs: cache.layers });
    const near = byLayer(rotate(graph, sinkKeys, rotary));
    return byLayer(sinkKeys).map((far, layer) => ({ far, near: near[layer] ?? "" }));
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
