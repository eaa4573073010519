import type { GraphBuilder, Value } from "../onnx/graph.js";
import type { ChosenActivation } from "./chosen-activation.js";
import { number, rowSquares, rowSums } from "./graph-rows.js";
import { activationWeights, readingActivations } from "./reading-activations.js";
import { type GraphCut, groupMaxCut, topAfaCut, topKCut, type Uncut } from "./reading-cut.js";
import { readingInput } from "./reading-input.js";
import {
  DECODER,
  DECODER_NORMS,
  ENCODER,
  product,
  productWeights,
  type SaePrecision,
  type WeightOf,
} from "./sae-matrices.js";
import type { SaeOutline } from "./stored-sae.js";

/**
 * Graphs that read features off residuals without anything of width dSae leaving them:
 * residual [rows, dIn] -> scalars [rows, 5], listed [rows, 2 top], all float32. Rows do not mix. Inputs that stay on the
 * host, int64 [1]:
 * - top: features that are listed, at most dSae.
 * - places, where features are cut by their order: k of top-k, of which there are no more than dSae; of top-AFA how many of
 *   the largest are put in order, see `topAfaCut`.
 * Features are kept as `FeatureKeeper` keeps them. All operators have CUDA kernels that need no cuDNN, and a GPU may record
 * them.
 */
export type ReadingGraph = `read-${ChosenActivation["kind"]}`;

/**
 * Columns of `scalars`: l0, |z|, |f|^2, mse (0 of a transcoder), and 1 where more places are needed.
 * Columns of `listed`: `top` features by activation * |decoder row| downwards, then their activations; features beyond l0
 * have an activation of 0. Of features of one size the lowest come first on a CPU; CUDA's TopK has no such order.
 */
export const SCALARS = ["l0", "norm", "squares", "mse", "unfinished"] as const;

/** Numbers of features are float32 in `listed`: up to here these are exact. */
export const MOST_READ_FEATURES = 2 ** 24;

/** The weights that a reading graph needs. */
export const readingWeights = (sae: SaeOutline, precision: SaePrecision): readonly string[] => [
  ...productWeights(ENCODER, precision),
  ...(sae.kind === "autoencoder" ? [...productWeights(DECODER, precision), BIAS] : []),
  ...activationWeights(sae),
  DECODER_NORMS,
];

const BIAS = "b_dec";

/** Adds a reading to an empty graph. */
export function buildReading(
  g: GraphBuilder,
  which: ReadingGraph,
  sae: SaeOutline,
  precision: SaePrecision,
  weight: WeightOf,
): void {
  const { dIn, dSae, dOut } = sae;
  const zero = number(g, 0);
  const residual = g.input("residual", "float32", ["rows", dIn]);
  const top = g.input("top", "int64", [1]);
  const bDec = sae.kind === "autoencoder" ? weight(BIAS) : null;
  const { encoded, norm, target, scale } = readingInput(g, sae, residual, bDec);
  const products = product(g, encoded, { K: dIn, N: dSae }, ENCODER, precision, weight);
  const activations = readingActivations(g, sae, products, weight);
  const norms = weight(DECODER_NORMS);
  const sizes = g.op("Mul", [activations, norms]);
  const { kept, unfinished } = cut(g, which, sae, { activations, sizes, norm });
  const keptSizes = kept === activations ? sizes : g.op("Mul", [kept, norms]);
  const count = g.op("Where", [g.op("Greater", [kept, zero]), number(g, 1), zero]);
  const [l0, squares] = [rowSums(g, count), rowSquares(g, keptSizes)];
  const none = g.op("Mul", [l0, zero]);
  const [, features = ""] = g.multi("TopK", [keptSizes, top], 2, { axis: -1, largest: 1, sorted: 1 });
  const mse = () => {
    const sums = product(g, kept, { K: dSae, N: dOut }, DECODER, precision, weight);
    const output = bDec === null ? sums : g.op("Add", [sums, bDec]);
    const error = g.op("Sub", [target, scale === null ? output : g.op("Mul", [output, scale])]);
    return g.op("Div", [rowSquares(g, error), number(g, dIn)]);
  };
  const scalars: Record<(typeof SCALARS)[number], Value> = {
    l0,
    norm,
    squares,
    mse: sae.kind === "autoencoder" ? mse() : none,
    unfinished: unfinished ?? none,
  };
  const listed = [g.op("Cast", [features], { to: FLOAT }), g.op("GatherElements", [kept, features], { axis: 1 })];
  output(
    g,
    "scalars",
    SCALARS.map((name) => scalars[name]),
  );
  output(g, "listed", listed);
}

function output(g: GraphBuilder, name: string, parts: readonly Value[]): void {
  g.join(parts, 1, name);
  g.output(name, "float32", ["rows", `${name} of a row`]);
}

/** TensorProto.FLOAT */
const FLOAT = 1;

function cut(g: GraphBuilder, which: ReadingGraph, { activation, dSae }: SaeOutline, uncut: Uncut): GraphCut {
  const kind = which === "read-native" ? activation.kind : which === "read-top-afa" ? "top-afa" : "top-k";
  const places = () => g.input("places", "int64", [1]);
  switch (kind) {
    case "top-afa":
      // The one place is the last one, where the cut is forced to be.
      if (dSae === 1) return { kept: uncut.activations, unfinished: null };
      return topAfaCut(g, uncut, dSae, places());
    case "top-k":
      return topKCut(g, uncut, places());
    case "group-max":
      return groupMaxCut(g, uncut, dSae, activation.kind === "group-max" ? activation.groups : 1);
    default:
      return { kept: uncut.activations, unfinished: null };
  }
}
