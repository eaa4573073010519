import { GraphBuilder, type WeightPlace } from "../onnx/graph.js";
import { buildReading, type ReadingGraph, readingWeights } from "./reading-graph.js";
import { DECODER, ENCODER, product, productWeights, type SaePrecision, type WeightOf } from "./sae-matrices.js";
import type { SaeOutline } from "./stored-sae.js";

/** Weights of the graphs, by their names in the graphs and in the weights file. */
export type SaePlaces = ReadonlyMap<string, WeightPlace>;

/**
 * The graphs of one SAE; all other tensors are float32.
 * - encode: input [rows, dIn] -> products [rows, dSae], input W_enc.
 * - sum: activations [parts, rows, count], features [parts, count] int32 -> sums [parts, rows, dOut]: W_dec's rows of these
 *   features times the activations. Parts are summed at the same time, on different threads.
 * - decode: activations [rows, dSae] -> sums [rows, dOut], activations W_dec.
 * - compare: directions [dOut, columns] -> products [dSae, columns], W_dec directions.
 * - read-...: all of a reading, with each choice of features: see reading-graph.ts.
 */
export const SAE_GRAPHS = ["encode", "sum", "decode", "compare", "read-native", "read-top-afa", "read-top-k"] as const;
export type SaeGraph = (typeof SAE_GRAPHS)[number];

/** The weights that a graph needs. */
export function weightsOf(which: SaeGraph, precision: SaePrecision, sae: SaeOutline): readonly string[] {
  switch (which) {
    case "encode":
      return productWeights(ENCODER, precision);
    case "decode":
      return productWeights(DECODER, precision);
    case "sum":
    case "compare":
      return [DECODER];
    default:
      return readingWeights(sae, precision);
  }
}

/** A graph as an ONNX file beside its weights. */
export function buildSaeGraph(
  which: SaeGraph,
  sae: SaeOutline,
  precision: SaePrecision,
  places: SaePlaces,
  weightsFile: string,
): Uint8Array {
  const g = new GraphBuilder();
  BUILD[which](g, sae, precision, (name) => {
    const place = places.get(name);
    if (place === undefined) throw new RangeError(`${name} has no place in the weights file`);
    return g.weight(name, place, weightsFile);
  });
  return g.serialize(which);
}

type Build = (g: GraphBuilder, sae: SaeOutline, precision: SaePrecision, weight: WeightOf) => void;

const reading =
  (which: ReadingGraph): Build =>
  (g, sae, precision, weight) =>
    buildReading(g, which, sae, precision, weight);

const BUILD: Record<SaeGraph, Build> = {
  encode(g, { dIn, dSae }, precision, weight) {
    const input = g.input("input", "float32", ["rows", dIn]);
    g.op("Identity", [product(g, input, { K: dIn, N: dSae }, ENCODER, precision, weight)], {}, "products");
    g.output("products", "float32", ["rows", dSae]);
  },
  sum(g, { dOut }, _, weight) {
    const activations = g.input("activations", "float32", ["parts", "rows", "count"]);
    const features = g.input("features", "int32", ["parts", "count"]);
    g.op("MatMul", [activations, g.op("Gather", [weight(DECODER), features], { axis: 0 })], {}, "sums");
    g.output("sums", "float32", ["parts", "rows", dOut]);
  },
  decode(g, { dSae, dOut }, precision, weight) {
    const activations = g.input("activations", "float32", ["rows", dSae]);
    g.op("Identity", [product(g, activations, { K: dSae, N: dOut }, DECODER, precision, weight)], {}, "sums");
    g.output("sums", "float32", ["rows", dOut]);
  },
  compare(g, { dSae, dOut }, _, weight) {
    g.op("MatMul", [weight(DECODER), g.input("directions", "float32", [dOut, "columns"])], {}, "products");
    g.output("products", "float32", [dSae, "columns"]);
  },
  "read-native": reading("read-native"),
  "read-top-afa": reading("read-top-afa"),
  "read-top-k": reading("read-top-k"),
};
