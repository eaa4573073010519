import { GraphBuilder, type Value, type WeightPlace } from "../onnx/graph.js";
import { PLAIN_8, type Precision } from "../weights/block-format.js";
import type { SaeDescription } from "./sae.js";

/** How an SAE keeps its matrices. */
export type SaePrecision = Extract<Precision, "f32" | "q8">;

/** Weights of the graphs, by their names in the graphs and in the weights file. */
export type SaePlaces = ReadonlyMap<string, WeightPlace>;

/**
 * The graphs of one SAE; all other tensors are float32.
 * - encode: input [rows, dIn] -> products [rows, dSae], input W_enc.
 * - sum: activations [parts, 1, count], features [parts, count] int32 -> sums [parts, 1, dOut]: W_dec's rows of these
 *   features times the activations. Parts are summed at the same time, on different threads.
 * - decode: activations [rows, dSae] -> sums [rows, dOut], activations W_dec.
 * - compare: direction [dOut, 1] -> products [dSae, 1], W_dec direction.
 */
export const SAE_GRAPHS = ["encode", "sum", "decode", "compare"] as const;
export type SaeGraph = (typeof SAE_GRAPHS)[number];

type Sizes = Pick<SaeDescription, "dIn" | "dSae" | "dOut">;

/** [dIn, dSae] */
export const ENCODER = "W_enc";
/** [dSae, dOut] */
export const DECODER = "W_dec";
/** A matrix in 8 bits, as MatMulNBits has it: its columns in blocks [columns, blocks, 32], and a scale for each block. */
export const quantised = (name: string) => ({ data: `${name}.q8`, scales: `${name}.scales` });

/** The weights that a graph needs. */
export function weightsOf(which: SaeGraph, precision: SaePrecision): readonly string[] {
  const name = which === "encode" ? ENCODER : DECODER;
  return precision === "f32" || which === "sum" || which === "compare" ? [name] : Object.values(quantised(name));
}

/** A graph as an ONNX file beside its weights. */
export function buildSaeGraph(
  which: SaeGraph,
  sizes: Sizes,
  precision: SaePrecision,
  places: SaePlaces,
  weightsFile: string,
): Uint8Array {
  const g = new GraphBuilder();
  const weight = (name: string): Value => {
    const place = places.get(name);
    if (place === undefined) throw new RangeError(`${name} has no place in the weights file`);
    return g.weight(name, place, weightsFile);
  };
  BUILD[which](g, sizes, precision, weight);
  return g.serialize(which);
}

type Build = (g: GraphBuilder, sizes: Sizes, precision: SaePrecision, weight: (name: string) => Value) => void;

const BUILD: Record<SaeGraph, Build> = {
  encode(g, { dIn, dSae }, precision, weight) {
    const input = g.input("input", "float32", ["rows", dIn]);
    g.op("Identity", [product(g, input, { K: dIn, N: dSae }, ENCODER, precision, weight)], {}, "products");
    g.output("products", "float32", ["rows", dSae]);
  },
  sum(g, { dOut }, _, weight) {
    const activations = g.input("activations", "float32", ["parts", 1, "count"]);
    const features = g.input("features", "int32", ["parts", "count"]);
    g.op("MatMul", [activations, g.op("Gather", [weight(DECODER), features], { axis: 0 })], {}, "sums");
    g.output("sums", "float32", ["parts", 1, dOut]);
  },
  decode(g, { dSae, dOut }, precision, weight) {
    const activations = g.input("activations", "float32", ["rows", dSae]);
    g.op("Identity", [product(g, activations, { K: dSae, N: dOut }, DECODER, precision, weight)], {}, "sums");
    g.output("sums", "float32", ["rows", dOut]);
  },
  compare(g, { dSae, dOut }, _, weight) {
    g.op("MatMul", [weight(DECODER), g.input("direction", "float32", [dOut, 1])], {}, "products");
    g.output("products", "float32", [dSae, 1]);
  },
};

/** x [rows, K] times a matrix [K, N]; with 8 bits, x is rounded to 8 bits as well. */
function product(
  g: GraphBuilder,
  x: Value,
  { K, N }: { readonly K: number; readonly N: number },
  name: string,
  precision: SaePrecision,
  weight: (name: string) => Value,
): Value {
  if (precision === "f32") return g.op("MatMul", [x, weight(name)]);
  const { data, scales } = quantised(name);
  const attributes = { K, N, bits: 8, block_size: PLAIN_8.size, accuracy_level: 4 };
  return g.microsoft("MatMulNBits", [x, weight(data), weight(scales)], attributes);
}
