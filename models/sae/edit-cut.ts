import type { HookName } from "../hooks.js";
import type { GraphBuilder, Value } from "../onnx/graph.js";
import { number } from "./graph-rows.js";
import { activationWeights, readingActivations } from "./reading-activations.js";
import { readingInput } from "./reading-input.js";
import type { SaeActivation } from "./sae.js";
import { DECODER_NORMS, ENCODER, type WeightOf } from "./sae-matrices.js";
import type { SaeOutline } from "./stored-sae.js";

/** An SAE at a place of the model, one that keeps only some of its active features. */
export interface CuttingSae {
  readonly id: string;
  readonly hook: HookName;
  readonly outline: SaeOutline;
}

/** Whether an SAE keeps only some of its active features, so that it takes all of them to know whether one is kept. */
export const hasCut = ({ kind }: SaeActivation): boolean =>
  kind === "top-k" || kind === "group-max" || kind === "top-afa";

const BIAS = "b_dec";

/** Shapes of the weights that `keepsFeatures` needs, all float32; the encoder too, whatever features are read with. */
export function cutWeights(sae: SaeOutline): ReadonlyMap<string, readonly number[]> {
  const { dIn, dSae } = sae;
  const vectors = [...activationWeights(sae), ...(sae.activation.kind === "top-afa" ? [DECODER_NORMS] : [])];
  const shapes = new Map<string, readonly number[]>(vectors.map((name) => [name, [dSae]]));
  return shapes.set(ENCODER, [dIn, dSae]).set(BIAS, [dIn]);
}

/**
 * Whether the own cut of an autoencoder (`nativeCut`) keeps some of its features at residuals x [batch, tokens, dIn]: bool
 * [batch, tokens, edits]. Nothing is sorted: a feature is kept if what comes before it in the order of the cut, of equal
 * ones the lowest first, is little enough. The last length of top-AFA, which its authors force to 1e4, is left out: it
 * makes a difference for residuals of that length alone.
 * @param features int64 [batch, 1, edits]; what is negative counts from the last
 */
export function keepsFeatures(g: GraphBuilder, sae: SaeOutline, x: Value, features: Value, weight: WeightOf): Value {
  const { activation, dSae } = sae;
  const zero = number(g, 0);
  const [ofEdits, ofFeatures] = [axis(g, 2), axis(g, 3)];
  const { encoded, norm } = readingInput(g, sae, x, weight(BIAS));
  const activations = readingActivations(g, sae, g.op("MatMul", [encoded, weight(ENCODER)]), weight);
  const sizes = activation.kind === "top-afa" ? g.op("Mul", [activations, weight(DECODER_NORMS)]) : activations;
  const own = g.op("GatherElements", [sizes, perToken(g, features, x)], { axis: 2 });

  // Below, other features lie along the last of four axes: [batch, tokens, edits, dSae].
  const [others, itself] = [g.op("Unsqueeze", [sizes, ofEdits]), g.op("Unsqueeze", [own, ofFeatures])];
  const numbers = g.op(
    "Range",
    [0, dSae, 1].map((value) => g.constant("int64", [], [value])),
  );
  const ownNumber = g.op("Unsqueeze", [features, ofFeatures]);
  const isLower = g.op("And", [g.op("Equal", [others, itself]), g.op("Less", [numbers, ownNumber])]);
  const isBefore = g.op("Or", [g.op("Greater", [others, itself]), isLower]);
  const sumWhere = (chosen: Value, values: Value) =>
    g.op("ReduceSum", [g.op("Where", [chosen, values, zero]), ofFeatures], { keepdims: 0 });
  const fewerThan = (count: number, chosen: Value) => g.op("Less", [sumWhere(chosen, number(g, 1)), number(g, count)]);

  const isWithin = (): Value => {
    switch (activation.kind) {
      case "top-k":
        return fewerThan(activation.k, isBefore);
      case "group-max": {
        const group = (of: Value) => g.op("Div", [of, g.constant("int64", [], [dSae / activation.groups])]);
        return fewerThan(1, g.op("And", [isBefore, g.op("Equal", [group(numbers), group(ownNumber)])]));
      }
      default: {
        const squares = g.op("Mul", [others, others]);
        const before = sumWhere(isBefore, squares);
        const after = g.op("Add", [before, g.op("Mul", [own, own])]);
        const lengths = g.op("Add", [g.op("Sqrt", [before]), g.op("Sqrt", [after])]);
        // The nearer of two lengths to the norm; the first feature is kept however long it is.
        const isNearer = g.op("Less", [lengths, g.op("Add", [norm, norm])]);
        return g.op("Or", [isNearer, g.op("Equal", [before, zero])]);
      }
    }
  };
  return g.op("And", [g.op("Greater", [own, zero]), isWithin()]);
}

/** Features [batch, 1, edits] for every token of x [batch, tokens, dIn]. */
function perToken(g: GraphBuilder, features: Value, x: Value): Value {
  const rows = g.op("Shape", [x], { end: 2 });
  return g.op("Expand", [features, g.op("Concat", [rows, axis(g, 1)], { axis: 0 })]);
}

const axis = (g: GraphBuilder, value: number): Value => g.constant("int64", [1], [value]);
