import { type AppendInputs, BATCH, type DecodeInterface, type RawKeyOutput } from "../graph-interface.js";
import { KvCodes } from "../keys-values/kv-codes.js";
import type { KvFormat } from "../keys-values/kv-format.js";
import type { Geometry } from "../model-shape.js";
import type { Dimension, GraphBuilder, Value } from "../onnx/graph.js";
import {
  type AttentionSizes,
  alibiBiases,
  type CacheShape,
  cacheInputs,
  type LayerAttention,
  placeOf,
  type QueryKeyValue,
  type Rotary,
  rotaryInputs,
  rotate,
  slotsOf,
  sum,
} from "./attention.js";
import { sinkInputs, turnedSinks } from "./turned-sinks.js";

type DecodeGeometry = DecodeInterface["geometries"][number] & { readonly appended: AppendInputs };

/** Queries, keys and values of all heads, one behind the other as the projection gives them. */
interface Projection {
  readonly projected: Value;
  readonly key: Value;
  readonly value: Value;
}

/**
 * Attention of one token per row over keys and values of 8 or 4 bits, by ONNX Runtime's GroupQueryAttention: one node
 * rotates, appends the token's codes to those that the row has, and attends to the slots of each row that are in use.
 * Starting tokens are kept in full precision, turned as in `DecodeAttention`, and written over their slots.
 */
export class GroupedQueryAttention implements LayerAttention {
  readonly geometries: readonly DecodeGeometry[];
  readonly layers: DecodeInterface["layers"][number][] = [];
  readonly #codes: KvCodes;
  /** Per geometry: codes of the turned starting tokens of each of its layers, and what ALiBi adds to the scores. */
  readonly #turned: readonly (readonly Value[])[];
  readonly #biases: readonly (Value | null)[];
  /** Projections by their queries. */
  readonly #projections = new Map<Value, Projection>();

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape & { readonly kv: KvFormat },
  ) {
    this.#codes = new KvCodes(graph, cache, cache.kv);
    this.geometries = cache.geometries.map((geometry, i) => this.#inputs(geometry, i));
    this.#turned = this.geometries.map(({ sinks }, i) =>
      turnedSinks(graph, cache, i, sinks, (keys, place) => this.#codes.packed(this.#codes.of(keys, place))),
    );
    this.#biases = alibiBiases(graph, cache, this.geometries);
  }

  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, sum(heads), 1, headDim]);
    const parts = this.graph.split(this.graph.op("Reshape", [projected, shape]), 1, heads);
    const [query, key, value] = parts;
    if (query !== undefined && key !== undefined && value !== undefined)
      this.#projections.set(query, { projected, key, value });
    return parts;
  }

  attend(layer: number, sizes: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph, cache } = this;
    const { heads, kvHeads, headDim, scale, softcap } = sizes;
    const { geometry, nth } = placeOf(cache, layer);
    const inputs = this.geometries[geometry]!;
    const { keys, values, type, shape } = cacheInputs(graph, cache, layer, geometry);
    const inPlace = (name: string): Value => graph.output(name, type, shape);
    const turned = this.#turned[geometry]?.[nth];
    const [pastKeys, sinkOutputs] =
      turned === undefined
        ? [keys, []]
        : [graph.op("TensorScatter", [keys, turned], { axis: -2 }, `keys.${layer}.sinks`), [`keys.${layer}.sinks`]];
    for (const output of sinkOutputs) inPlace(output);
    const [keyOutput, valueOutput] = [`keys.${layer}.out`, `values.${layer}.out`];
    const { past, slots, rotations } = inputs.appended;
    const positions = cache.geometries[geometry]?.positions;
    const rotary = positions?.kind === "rotary" ? positions : null;
    const together = this.#projectionOf({ query, key, value }, rotary !== null && rotations === null);
    const apart = (x: Value, of: number): Value =>
      graph.op("Reshape", [x, graph.constant("int64", [3], [0, 1, of * headDim])]);
    const turnedHere = (x: Value): Value =>
      rotary === null || rotations !== null || inputs.rotary === null
        ? x
        : rotate(graph, x, inputs.rotary, rotary, headDim);
    const tables =
      rotations === null || inputs.rotary === null
        ? ["", "", ""]
        : [inputs.rotary.cos, inputs.rotary.sin, rotations.rows];
    const attended = graph.microsoft(
      "GroupQueryAttention",
      [
        ...(together !== null
          ? [together, "", ""]
          : [apart(turnedHere(query), heads), apart(turnedHere(key), kvHeads), apart(value, kvHeads)]),
        ...[pastKeys, values, past, slots, ...tables, this.#biases[geometry] ?? "", ""],
        ...[this.#codes.scales("keys", layer), this.#codes.scales("values", layer)],
      ],
      {
        num_heads: heads,
        kv_num_heads: kvHeads,
        scale: { float: scale },
        ...(softcap ? { softcap: { float: softcap } } : {}),
        ...(rotations === null ? {} : { do_rotary: 1, rotary_interleaved: rotary?.interleaved ? 1 : 0 }),
        k_quant_type: "PER_CHANNEL",
        v_quant_type: "PER_CHANNEL",
        kv_cache_bit_width: cache.kv.bits,
      },
      [inPlace(keyOutput), inPlace(valueOutput)],
    );
    this.layers.push({
      geometry,
      keys: { input: keys, outputs: [...sinkOutputs, keyOutput] },
      values: { input: values, outputs: [valueOutput] },
      rawKey: turned === undefined ? null : this.#rawKey(sizes, key, together),
      rawValue: null,
      archive: null,
    });
    return attended;
  }

  /** All heads in one tensor, where nothing was done to them since they were projected. */
  #projectionOf({ query, key, value }: QueryKeyValue, rotatedBefore: boolean): Value | null {
    const known = this.#projections.get(query);
    return known?.key === key && known.value === value && !rotatedBefore ? known.projected : null;
  }

  #rawKey({ heads, kvHeads, headDim }: AttentionSizes, key: Value, together: Value | null): RawKeyOutput {
    const { graph } = this;
    if (together === null) return { output: graph.output(key, "float32", [BATCH, kvHeads, 1, headDim]), at: 0 };
    const shape = [BATCH, 1, (heads + 2 * kvHeads) * headDim];
    return { output: graph.output(together, "float32", shape), at: heads * headDim };
  }

  #inputs(geometry: Geometry, i: number): DecodeGeometry {
    const { graph, cache } = this;
    const { positions } = geometry;
    const prefix = `g${i}.`;
    const rotary = positions.kind === "rotary" ? positions : null;
    const inside = rotary !== null && rotatesInside(rotary, cache.headDim);
    const size = inside ? `${prefix}rotations` : BATCH;
    return {
      slots: slotsOf(i),
      rotary: rotary && (inside ? this.#tables(prefix, size, rotary) : rotaryInputs(graph, prefix, 1, rotary)),
      sinks: sinkInputs(graph, prefix, cache, i),
      writeIndex: null,
      appended: {
        past: graph.input(`${prefix}past`, "int32", [BATCH]),
        slots: graph.hostInput(`${prefix}all_slots`, "int32", []),
        rotations: inside ? { size, rows: graph.input(`${prefix}rotation_rows`, "int64", [BATCH, 1]) } : null,
      },
      length: null,
      distances:
        positions.kind === "alibi" ? graph.input(`${prefix}distances`, "float32", [BATCH, 1, 1, slotsOf(i)]) : null,
      middle: null,
    };
  }

  #tables(prefix: string, rows: Dimension, { rotaryDim }: Rotary) {
    const table = (name: string): Value => this.graph.input(`${prefix}${name}`, "float32", [rows, rotaryDim / 2]);
    return { cos: table("cos"), sin: table("sin") };
  }
}

/** Whether GroupQueryAttention itself rotates such heads. */
const rotatesInside = ({ rotaryDim }: Rotary, headDim: number): boolean => rotaryDim % 16 === 0 && headDim % 16 === 0;
