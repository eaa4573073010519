import type { Value } from "../../models/onnx/graph.js";
import { topKCut } from "../../models/sae/reading-cut.js";
import { NestedReconstructions } from "./nested-reconstructions.js";
import type { StepConfig } from "./step-config.js";
import { gradient, type StepGraph, StepGraphBuilder } from "./step-graph.js";

/** Gradients of the loss of lengths, by hand: factors of f [batch, 1], and where the target is centred of z [batch, 1]. */
export const PULL = "pull";
export const TARGET_PULL = "target_pull";

/**
 * Where the activations of dead features come from: null: no feature is dead; "rows": the host has chosen them, the input `dead`;
 * "mask": they are chosen here, of `activations` those of the features that `dead_mask` [1, dSae] marks.
 */
export type DeadRows = "rows" | "mask" | null;

/**
 * The second half of a step of top-AFA, top-k and batch top-k: losses, gradients by hand, and Adam. With f the kept
 * activations, xn the input, z that less b_dec, e = f W_dec + b_dec - xn, B rows of width d:
 *
 *   mse = mean e^2, so dR = 2 e / (B d);  dA = (dR W_dec^T + pull f) 1[f > 0]
 *   dW_enc = z^T dA;  dW_dec = f^T dR, less its projection on the unit rows that the step is taken from
 *   db_dec = sum dR - (sum dA) W_enc^T + sum target_pull z
 *
 * and where features are dead, g their activations [batch, dSae]: r = g W_dec + e, aux = penalty mean r^2,
 * dG = 2 penalty r / (B d), dW_dec += g^T dG, dA += (dG W_dec^T) 1[g > 0], dR += dG, because e is not detached. Where batch top-k
 * has Matryoshka widths, dR is of each level its own (`NestedReconstructions`).
 * Source: arXiv 2503.24277 and its authors' trainer, github.com/SewoongLee/top-afa-sae, training/{sae,training}.py.
 */
export function updateGraph(
  config: StepConfig,
  { dead, showsGradients = false }: { readonly dead: DeadRows; readonly showsGradients?: boolean },
): StepGraph {
  const { dIn, dSae, batch, activation } = config;
  const step = new StepGraphBuilder(config, showsGradients);
  const { graph } = step;
  const [wEnc, wDec, bias] = [
    step.input("W_enc", [dIn, dSae]),
    step.input("W_dec", [dSae, dIn]),
    step.input("b_dec", [dIn]),
  ];
  const input = step.input("input", [batch, dIn]);
  const centred = step.input("centred", [batch, dIn]);
  const norms = step.input("norms", [dSae, 1]);
  const kept = step.input("kept", [batch, dSae]);

  const reconstructions = new NestedReconstructions(step, { kept, rows: wDec, bias, input });
  const { error, innerLoss } = reconstructions;
  step.output("mse", step.meanSquare(error), []);
  if (innerLoss !== null) step.output("inner", innerLoss, []);
  step.output("variance", step.meanSquare(step.minus(input, step.times(step.sum(input, 0), 1 / batch))), []);
  const share = 2 / (batch * dIn);

  let [ofDead, wDecOfDead, ofDeadFeatures]: (Value | undefined)[] = [];
  if (dead !== null) {
    const revived = dead === "rows" ? step.input("dead", [batch, dSae]) : chosenDead(step);
    const left = step.product(revived, wDec, { c: error });
    step.output("aux", step.times(step.meanSquare(left), config.dead.penalty), []);
    ofDead = step.times(left, share * config.dead.penalty);
    wDecOfDead = step.product(revived, ofDead, { transposed: "a" });
    ofDeadFeatures = step.times(step.product(ofDead, wDec, { transposed: "b" }), step.above(revived, 0));
  }
  reconstructions.backward(share, ofDead);

  let ofKept = reconstructions.keptGradient();
  if (activation.kind === "top-afa") ofKept = step.plus(ofKept, step.times(kept, step.input(PULL, [batch, 1])));
  let ofActivations = step.times(ofKept, step.above(kept, 0));
  if (ofDeadFeatures !== undefined) ofActivations = step.plus(ofActivations, ofDeadFeatures);

  const ofWEnc = step.product(centred, ofActivations, { transposed: "a" });
  const ofWDec = reconstructions.rowGradient(wDecOfDead);
  const throughEncoder = step.product(step.sum(ofActivations, 0), wEnc, { transposed: "b" });
  let ofBias = step.minus(step.sum(reconstructions.gradient, 0), throughEncoder);
  if (activation.kind === "top-afa" && activation.target === "centred")
    ofBias = step.plus(ofBias, step.sum(step.times(centred, step.input(TARGET_PULL, [batch, 1])), 0));

  const rows = graph.op("Div", [wDec, norms]);
  const alongRows = step.times(rows, step.sum(step.times(ofWDec, rows), 1));
  if (showsGradients) step.output(`${gradient("W_dec")}.unprojected`, ofWDec, [dSae, dIn]);
  step.adam(
    new Map([
      ["W_enc", ofWEnc],
      ["W_dec", step.minus(ofWDec, alongRows)],
      ["b_dec", graph.op("Reshape", [ofBias, graph.constant("int64", [1], [dIn])])],
    ]),
    new Map([["W_dec", rows]]),
  );
  return step.finish(dead === null ? "update" : "update-dead");
}

/** Of dead features the activations that are largest in each row, as many as may take part. */
function chosenDead(step: StepGraphBuilder): Value {
  const { dSae, batch, dead } = step.config;
  const activations = step.times(step.input("activations", [batch, dSae]), step.input("dead_mask", [1, dSae]));
  if (dead.most >= dSae) return activations;
  const places = step.graph.constant("int64", [1], [dead.most]);
  return topKCut(step.graph, { activations, sizes: activations, norm: activations }, places).kept;
}
