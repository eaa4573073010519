import type { GraphBuilder, Value } from "../onnx/graph.js";
import { number } from "./graph-rows.js";
import type { WeightOf } from "./sae-matrices.js";
import type { SaeOutline } from "./stored-sae.js";

/** [dSae] of a jumprelu SAE: what an activation is above, max(threshold, 0). */
const LEAST = "least";
/** [dSae] of a gated SAE: exp(r_mag). */
const GAIN = "gain";

/**
 * Vectors that reading graphs need instead of those that were published. They are not computed in the graph, where they
 * would be folded from the file even if a session is given the weights in memory.
 */
export function readingVectors({ activation }: SaeOutline): Map<string, Float32Array> {
  switch (activation.kind) {
    case "jumprelu":
      return new Map([[LEAST, activation.threshold.map((value) => Math.max(value, 0))]]);
    case "gated":
      return new Map([[GAIN, activation.rMag.map(Math.exp)]]);
    default:
      return new Map();
  }
}

/** The weights that `readingActivations` needs. */
export function activationWeights({ bEnc, activation }: SaeOutline): readonly string[] {
  const biases = bEnc === null ? [] : ["b_enc"];
  if (activation.kind === "jumprelu") return [...biases, LEAST];
  return activation.kind === "gated" ? [...biases, "b_gate", "b_mag", GAIN] : biases;
}

/** Activations [rows, dSae] before any cut, of products [rows, dSae]; what is NaN is not active. */
export function readingActivations(g: GraphBuilder, sae: SaeOutline, products: Value, weight: WeightOf): Value {
  const zero = number(g, 0);
  const above = (value: Value, least: Value) => g.op("Greater", [value, least]);
  const pre = sae.bEnc === null ? products : g.op("Add", [products, weight("b_enc")]);
  switch (sae.activation.kind) {
    case "jumprelu":
      return g.op("Where", [above(pre, weight(LEAST)), pre, zero]);
    case "gated": {
      const open = above(g.op("Add", [pre, weight("b_gate")]), zero);
      const magnitude = g.op("Add", [g.op("Mul", [pre, weight(GAIN)]), weight("b_mag")]);
      return g.op("Where", [g.op("And", [open, above(magnitude, zero)]), magnitude, zero]);
    }
    default:
      return g.op("Where", [above(pre, zero), pre, zero]);
  }
}
