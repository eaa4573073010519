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
import type { DecodeInterface, Geometry } from "./graph-interface.js";
import type { Dimension, GraphBuilder, Value } from "./onnx/graph.js";

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

  attend(
    layer: number,
    geometry: number,
    { heads, kvHeads, headDim, scale }: AttentionSizes,
    { query, key, value }: QueryKeyValue,
  ): Value {
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
    const attended = graph.op("Attention", [queries, current, valueOutput, "", "", "", inputs.length], {
      scale: { float: scale },
    });
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
