import { BATCH, type DecodeInterface } from "../graph-interface.js";
import { KvCodes, type KvPlace } from "../keys-values/kv-codes.js";
import type { Geometry } from "../model-shape.js";
import type { GraphBuilder, Value } from "../onnx/graph.js";
import {
  type AttentionSizes,
  alibiBiases,
  attention,
  type CacheShape,
  cacheInputs,
  type LayerAttention,
  placeOf,
  type QueryKeyValue,
  rotaryInputs,
  rotate,
  slotsOf,
  sum,
} from "./attention.js";
import type { MiddleRetrieval } from "./middle-retrieval.js";
import { sinkInputs, turnedSinks } from "./turned-sinks.js";

type DecodeGeometry = DecodeInterface["geometries"][number];

/**
 * Attention of one token per row, on a cache of [sinks | ring] slots (arXiv 2308.16137, section 3). Ring keys stand
 * rotated at their own positions; the starting tokens are rotated anew to max(s, t - W) and written over their slots, so
 * that one ordinary attention over the slots in use has every key at its right distance. Keys of layers without rotation,
 * or with a trained window, are read as they stand. Keys and values that are kept as
 * integers are all made numbers again in every step, which only texts that retrieve take the time for.
 */
export class DecodeAttention implements LayerAttention {
  readonly geometries: readonly DecodeGeometry[];
  readonly layers: DecodeInterface["layers"][number][] = [];
  /** Per geometry: the turned starting tokens of each of its layers, and what ALiBi adds to the scores. */
  readonly #turned: readonly (readonly Value[])[];
  readonly #biases: readonly (Value | null)[];
  readonly #codes: KvCodes | null;

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
    readonly retrieval: MiddleRetrieval | null = null,
  ) {
    this.#codes = cache.kv === null ? null : new KvCodes(graph, cache, cache.kv);
    this.geometries = cache.geometries.map((geometry, i) => this.#inputs(geometry, i));
    this.#turned = this.geometries.map(({ sinks }, i) =>
      turnedSinks(graph, cache, i, sinks, (keys, place) => this.#kept(keys, place)),
    );
    this.#biases = alibiBiases(graph, cache, this.geometries);
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
    const { keys, values, type, shape } = cacheInputs(graph, cache, layer, geometry);
    const keyOutputs: Value[] = [];
    const scatter = (buffer: Value, update: Value, at: Value | null, name: string): Value => {
      graph.op("TensorScatter", at === null ? [buffer, update] : [buffer, update, at], { axis: -2 }, name);
      return graph.output(name, type, shape);
    };
    const [ofKeys, ofValues]: [KvPlace, KvPlace] = [
      { of: "keys", layers: [layer] },
      { of: "values", layers: [layer] },
    ];
    let current = keys;
    const turned = this.#turned[geometry]?.[nth];
    if (turned !== undefined) {
      current = scatter(current, turned, null, `keys.${layer}.sinks`);
      keyOutputs.push(current);
    }
    current = scatter(current, this.#kept(this.#rotate(key, geometry), ofKeys), writeIndex, `keys.${layer}.out`);
    keyOutputs.push(current);
    const valueOutput = scatter(values, this.#kept(value, ofValues), writeIndex, `values.${layer}.out`);
    const seen = { key: this.#read(current, ofKeys), value: this.#read(valueOutput, ofValues) };
    const rotated = this.#rotate(query, geometry);
    const retrieval = this.retrieval?.covers(geometry) ? this.retrieval : null;
    const { attended, archive = null } =
      retrieval?.attend(layer, sizes, { query, ...seen }, rotated) ??
      this.#attendToSlots(geometry, sizes, { query: rotated, ...seen });
    const keepsRaw =
      turned !== undefined ||
      (retrieval !== null && (this.#codes !== null || cache.geometries[geometry]?.positions.kind === "rotary"));
    this.layers.push({
      geometry,
      keys: { input: keys, outputs: keyOutputs },
      values: { input: values, outputs: [valueOutput] },
      rawKey: keepsRaw ? { output: graph.output(key, graph.activations, [BATCH, kvHeads, 1, headDim]), at: 0 } : null,
      rawValue:
        archive === null || this.#codes === null ? null : graph.output(value, "float32", [BATCH, kvHeads, 1, headDim]),
      archive,
    });
    return graph.op("Reshape", [attended, graph.constant("int64", [3], [0, 1, heads * headDim])]);
  }

  /** Turns keys or values into elements of the cache. */
  #kept(x: Value, place: KvPlace): Value {
    const codes = this.#codes;
    return codes === null ? x : codes.packed(codes.of(x, place));
  }

  /** Turns elements of the cache into numbers. */
  #read(buffer: Value, place: KvPlace): Value {
    const codes = this.#codes;
    return codes === null ? buffer : codes.values(codes.unpacked(buffer), place);
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
      sinks: sinkInputs(graph, prefix, cache, i),
      writeIndex: graph.input(`${prefix}write_index`, "int64", [BATCH]),
      appended: null,
      length: alibi || middle !== null ? null : graph.input(`${prefix}length`, "int64", [BATCH]),
      distances: alibi ? graph.input(`${prefix}distances`, "float32", [BATCH, 1, 1, slotsOf(i)]) : null,
      middle,
    };
  }

  #rotate(x: Value, geometry: number): Value {
    const positions = this.cache.geometries[geometry]?.positions;
    const inputs = this.geometries[geometry]?.rotary ?? null;
    if (inputs === null || positions?.kind !== "rotary") return x;
    return rotate(this.graph, x, inputs, positions, this.cache.headDim);
  }
}
