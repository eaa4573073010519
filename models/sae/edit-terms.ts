import type { SaeDescription } from "./sae.js";

/** What of an SAE an edit of one feature needs besides its vectors. */
export type EditedSae = Pick<
  SaeDescription,
  "dIn" | "dSae" | "activation" | "bEnc" | "bDec" | "subtractsBDec" | "normalisation"
>;

/**
 * How one feature is read, before any cut, from the residual x: with n(x) the normalised x and w the encoder column,
 * pre = n(x) w + bias, a = relu(gain * pre + offset) where pre > threshold, else 0.
 */
export interface FeatureTerms {
  /** [dIn]; centred where the normalisation takes the mean off, so that x itself can be multiplied with it. */
  readonly encoder: Float32Array;
  readonly bias: number;
  readonly threshold: number;
  readonly gain: number;
  readonly offset: number;
}

/** @param column [dIn] the feature's column of W_enc */
export function featureTerms(sae: EditedSae, feature: number, column: Float32Array): FeatureTerms {
  const { activation, bEnc, bDec, dIn } = sae;
  const subtracted = sae.subtractsBDec ? dot(column, bDec) : 0;
  const centres = sae.normalisation === "layer_norm" || sae.normalisation === "centre";
  const mean = centres ? column.reduce((sum, value) => sum + value, 0) / dIn : 0;
  const terms = {
    encoder: column.map((value) => value - mean),
    bias: (bEnc?.[feature] ?? 0) - subtracted,
    threshold: 0,
    gain: 1,
    offset: 0,
  };
  if (activation.kind === "jumprelu") return { ...terms, threshold: activation.threshold[feature] ?? 0 };
  if (activation.kind !== "gated") return terms;
  return {
    ...terms,
    threshold: -(activation.bGate[feature] ?? 0),
    gain: Math.exp(activation.rMag[feature] ?? 0),
    offset: activation.bMag[feature] ?? 0,
  };
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (const [i, value] of a.entries()) sum += value * (b[i] ?? 0);
  return sum;
}
