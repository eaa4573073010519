import type { GraphBuilder, Value } from "../onnx/graph.js";
import { number } from "./graph-rows.js";
import type { WeightOf } from "./sae-matrices.js";
import type { SaeOutline } from "./stored-sae.js";

/** Activations [rows, dSae] before any cut, of products [rows, dSae]; what is NaN is not active. */
export function readingActivations(g: GraphBuilder, sae: SaeOutline, products: Value, weight: WeightOf): Value {
  const zero = number(g, 0);
  const above = (value: Value, least: Value) => g.op("Greater", [value, least]);
  const pre = sae.bEnc === null ? products : g.op("Add", [products, weight("b_enc")]);
  switch (sae.activation.kind) {
    case "jumprelu":
      return g.op("Where", [above(pre, g.op("Relu", [weight("threshold")])), pre, zero]);
    case "gated": {
      const open = above(g.op("Add", [pre, weight("b_gate")]), zero);
      const gained = g.op("Mul", [pre, g.op("Exp", [weight("r_mag")])]);
      const magnitude = g.op("Add", [gained, weight("b_mag")]);
      return g.op("Where", [g.op("And", [open, above(magnitude, zero)]), magnitude, zero]);
    }
    default:
      return g.op("Where", [above(pre, zero), pre, zero]);
  }
}
