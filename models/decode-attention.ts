import {
  type AttentionSizes,
  alibiBias,
  attention,
  type CacheShape,
  cacheInputs,
  type LayerAttention,
  layersOf,
  placeOf,
  type QueryKeyValue,
  rotaryInputs,
  rotate,
  sinkKeysInput,
  slotsOf,
  sum,
  turnsSinks,
} from "./attention.js";
import { BATCH, type DecodeInterface } from "./graph-interface.js";
import type { MiddleRetrieval } from "./middle-retrieval.js";
import type { Geometry } from "./model-shape.js";
import type { GraphBuilder, Value } from "./onnx/graph.js";

type DecodeGeometry = DecodeInterface["geometries"][number];

/**
 * Attention of one token per row, on a cache of [sinks | ring] slots (arXiv 2308.16137, section 3). Ring keys stand
 * rotated at their own positions; the starting tokens are rotated anew to max(s, t - W) and written over their slots, so
 * that one ordinary attention over the slots in use has every key at its right distance. Keys of layers without rotation,
 * or with a trained window, are read as they stand.
 */
export class DecodeAttention implements LayerAttention {
  readonly geometries: readonly DecodeGeometry[];
  readonly layers: DecodeInterface["layers"][number][] = [];
  /** Per geometry: the turned starting tokens of each of its layers, and what ALiBi adds to the scores. */
  readonly #turned: readonly (readonly Value[])[];
  readonly #biases: readonly (Value | null)[];

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
    readonly retrieval: MiddleRetrieval | null = null,
  ) {
    this.geometries = cache.geometries.map((geometry, i) => this.#inputs(geometry, i));
    this.#turned = this.geometries.map(({ sinks }, i) => this.#turn(sinks, i));
    this.#biases = this.geometries.map(({ distances }, i) => {
      const positions = cache.geometries[i]?.positions;
      return distances === null || positions?.kind !== "alibi" ? null : alibiBias(graph, distances, positions.slopes);
    });
  }

  /** With one token, [tokens, heads] and [heads, tokens] are the same memory. */
  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, sum(heads), 1, headDim]);
    return this.graph.split(this.graph.op("Reshape", [projected, shape]), 1, heads);
  }

  attend(layer: number, sizes: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph, cache } = this;
    const { heads, kvHeads, headDim } = sizes;
    const { geometry, nth } = placeOf(cache, layer);
    const { writeIndex } = this.geometries[geometry]!;
    const { keys, values, shape } = cacheInputs(graph, cache, layer, geometry);
    const keyOutputs: Value[] = [];
    const scatter = (buffer: Value, update: Value, at: Value | null, name: string): Value => {
      graph.op("TensorScatter", at === null ? [buffer, update] : [buffer, update, at], { axis: -2 }, name);
      return graph.output(name, graph.activations, shape);
    };
    let current = keys;
    const turned = this.#turned[geometry]?.[nth];
    if (turned !== undefined) {
      current = scatter(current, turned, null, `keys.${layer}.sinks`);
      keyOutputs.push(current);
    }
    current = scatter(current, this.#rotate(key, geometry), writeIndex, `keys.${layer}.out`);
    keyOutputs.push(current);
    const valueOutput = scatter(values, value, writeIndex, `values.${layer}.out`);
    const rotated = this.#rotate(query, geometry);
    const retrieval = this.retrieval?.covers(geometry) ? this.retrieval : null;
    const { attended, archive = null } =
      retrieval?.attend(layer, sizes, { query, key: current, value: valueOutput }, rotated) ??
      this.#attendToSlots(geometry, sizes, { query: rotated, key: current, value: valueOutput });
    const keepsRaw =
      turned !== undefined || (retrieval !== null && cache.geometries[geometry]?.positions.kind === "rotary");
    this.layers.push({
      geometry,
      keys: { input: keys, outputs: keyOutputs },
      values: { input: values, outputs: [valueOutput] },
      rawKey: keepsRaw ? graph.output(key, graph.activations, [BATCH, kvHeads, 1, headDim]) : null,
      archive,
    });
    return graph.op("Reshape", [attended, graph.constant("int64", [3], [0, 1, heads * headDim])]);
  }

  #attendToSlots(
    geometry: number,
    sizes: AttentionSizes,
    { query, key, value }: QueryKeyValue,
  ): { readonly attended: Value; readonly archive?: undefined } {
    const bias = this.#biases[geometry] ?? null;
    const seen = bias === null ? ["", "", "", this.geometries[geometry]?.length ?? ""] : [bias];
    const { scaled, scale } = this.#scaled(query, sizes.scale);
    return { attended: attention(this.graph, [scaled, key, value, ...seen], { ...sizes, scale }) };
  }

  /**
   * On the CPU a factor of the scores keeps ONNX Runtime from its product of one row with a matrix: all keys are packed
   * first, which takes twice as long. So queries are multiplied instead.
   */
  #scaled(query: Value, scale: number): { readonly scaled: Value; readonly scale: number } {
    const { graph } = this;
    if (graph.device !== "cpu" || graph.activations !== "float32") return { scaled: query, scale };
    return { scaled: graph.op("Mul", [query, graph.constant("float32", [], [scale])]), scale: 1 };
  }

  #inputs(geometry: Geometry, i: number): DecodeGeometry {
    const { graph, cache } = this;
    const { positions } = geometry;
    const prefix = `g${i}.`;
    const alibi = positions.kind === "alibi";
    const middle = this.retrieval?.geometries[i] ?? null;
    return {
      slots: slotsOf(i),
      rotary: positions.kind === "rotary" ? rotaryInputs(graph, prefix, 1, positions) : null,
      sinks:
        positions.kind === "rotary" && turnsSinks(geometry, cache.sinks)
          ? {
              rotary: rotaryInputs(graph, `${prefix}sink_`, cache.sinks, positions),
              keys: sinkKeysInput(graph, prefix, cache, i),
            }
          : null,
      writeIndex: graph.input(`${prefix}write_index`, "int64", [BATCH]),
      length: alibi || middle !== null ? null : graph.input(`${prefix}length`, "int64", [BATCH]),
      distances: alibi ? graph.input(`${prefix}distances`, "float32", [BATCH, 1, 1, slotsOf(i)]) : null,
      middle,
    };
  }

  /** One rotation for the starting tokens of all layers of a geometry, which stand at the same positions. */
  #turn(sinks: DecodeGeometry["sinks"], geometry: number): Value[] {
    const positions = this.cache.geometries[geometry]?.positions;
    if (sinks === null || positions?.kind !== "rotary") return [];
    const turned = rotate(this.graph, sinks.keys, sinks.rotary, positions, this.cache.headDim);
    const layers = layersOf(this.cache, geometry);
    return this.graph.multi("Split", [turned], layers, { axis: 1, num_outputs: layers });
  }

  #rotate(x: Value, geometry: number): Value {
    const positions = this.cache.geometries[geometry]?.positions;
    const inputs = this.geometries[geometry]?.rotary ?? null;
    if (inputs === null || positions?.kind !== "rotary") return x;
    return rotate(this.graph, x, inputs, positions, this.cache.headDim);
  }
}
