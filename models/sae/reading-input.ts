import type { GraphBuilder, Value } from "../onnx/graph.js";
import { number, rowSquares, rowSums } from "./graph-rows.js";
import type { SaeOutline } from "./stored-sae.js";

/** Rows on their way through an SAE in a graph: what sae-input.ts has, in float32. */
export interface ReadingInput {
  /** [rows, dIn]: what W_enc is applied to; zeros where `norm` is not a finite number, so that nothing after it is. */
  readonly encoded: Value;
  /** [rows, 1]: |normalised x - bDec|, |normalised x| of a transcoder. */
  readonly norm: Value;
  /** [rows, dIn] and [rows, 1]: an output y of the SAE stands for y * scale, which is to be `target`. */
  readonly target: Value;
  readonly scale: Value | null;
}

/** @param x [rows, dIn]; @param bDec [dOut] */
export function readingInput(g: GraphBuilder, sae: SaeOutline, x: Value, bDec: Value | null): ReadingInput {
  const { normalised, target, scale } = normalisation(g, sae, x);
  const centred = bDec === null ? normalised : g.op("Sub", [normalised, bDec]);
  const norm = g.op("Sqrt", [rowSquares(g, centred)]);
  const finite = g.op("Less", [norm, number(g, Number.POSITIVE_INFINITY)]);
  const encoded = g.op("Where", [finite, sae.subtractsBDec ? centred : normalised, number(g, 0)]);
  return { encoded, norm, target, scale };
}

function normalisation(g: GraphBuilder, { normalisation, dIn }: SaeOutline, x: Value) {
  const less = (values: Value) => g.op("Sub", [values, g.op("Div", [rowSums(g, values), number(g, dIn)])]);
  // Twice: a mean in float32 is wrong by its last digits, which is much where the rest of the row is small beside it.
  const centred = () => less(less(x));
  switch (normalisation) {
    case "centre": {
      const target = centred();
      return { normalised: target, target, scale: null };
    }
    case "layer_norm": {
      const target = centred();
      const std = g.op("Sqrt", [g.op("Div", [rowSquares(g, target), number(g, dIn - 1)])]);
      const normalised = g.op("Div", [target, g.op("Add", [std, number(g, 1e-5)])]);
      return { normalised, target, scale: std };
    }
    case "constant_norm_rescale": {
      const scale = g.op("Sqrt", [g.op("Div", [rowSquares(g, x), number(g, dIn)])]);
      // A zero vector stays one.
      const divisor = g.op("Where", [g.op("Equal", [scale, number(g, 0)]), number(g, 1), scale]);
      return { normalised: g.op("Div", [x, divisor]), target: x, scale };
    }
    case "none":
      return { normalised: x, target: x, scale: null };
  }
}
