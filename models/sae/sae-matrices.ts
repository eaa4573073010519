import type { GraphBuilder, Value } from "../onnx/graph.js";
import { PLAIN_8 } from "../weights/block-format.js";

/** How an SAE keeps its matrices. */
export type SaePrecision = "f32" | "q8";

/** [dIn, dSae] */
export const ENCODER = "W_enc";
/** [dSae, dOut] */
export const DECODER = "W_dec";
/** Lengths of W_dec's rows, [dSae]. */
export const DECODER_NORMS = "decoder_norms";
/** A matrix in 8 bits, as MatMulNBits has it: its columns in blocks [columns, blocks, 32], and a scale for each block. */
export const quantised = (name: string) => ({ data: `${name}.q8`, scales: `${name}.scales` });

/** A weight of the file beside a graph, by its name. */
export type WeightOf = (name: string) => Value;

/** The weights that `product` needs. */
export const productWeights = (name: string, precision: SaePrecision): readonly string[] =>
  precision === "f32" ? [name] : Object.values(quantised(name));

/** x [rows, K] times a matrix [K, N]; with 8 bits, x is rounded to 8 bits as well. */
export function product(
  g: GraphBuilder,
  x: Value,
  { K, N }: { readonly K: number; readonly N: number },
  name: string,
  precision: SaePrecision,
  weight: WeightOf,
): Value {
  if (precision === "f32") return g.op("MatMul", [x, weight(name)]);
  const { data, scales } = quantised(name);
  const attributes = { K, N, bits: 8, block_size: PLAIN_8.size, accuracy_level: 4 };
  return g.microsoft("MatMulNBits", [x, weight(data), weight(scales)], attributes);
}
