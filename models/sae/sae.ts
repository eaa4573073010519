import type { JsonObject } from "../model-file.js";
import type { SaeHook } from "./sae-hook.js";

/** The largest width that a config may name: more than any published SAE, and products of two are exact numbers. */
export const MAX_WIDTH = 2 ** 26;

/**
 * How pre-activations z = input W_enc + b_enc become activations.
 * - relu: max(z, 0).
 * - jumprelu: z where z > threshold and z > 0, else 0. Batch-top-k and matryoshka SAEs are this, once trained.
 * - gated: max(exp(rMag) * z + bMag, 0) where z + bGate > 0, else 0. There is no bEnc.
 * - top-k: the k largest of max(z, 0).
 * - group-max: the largest of max(z, 0) within each of `groups` runs of dSae / groups neighbouring features.
 * - top-afa: as many of the largest max(z, 0) as make up the norm of the input (arXiv 2503.24277). There is no bEnc.
 * Arrays have dSae elements.
 */
export type SaeActivation =
  | { readonly kind: "relu" }
  | { readonly kind: "jumprelu"; readonly threshold: Float32Array }
  | { readonly kind: "gated"; readonly bGate: Float32Array; readonly bMag: Float32Array; readonly rMag: Float32Array }
  | { readonly kind: "top-k"; readonly k: number }
  | { readonly kind: "group-max"; readonly groups: number }
  | { readonly kind: "top-afa" };

/**
 * What is done to x before everything else, and undone on the output of an autoencoder.
 * - centre: x - mean; the output is y + mean.
 * - layer_norm: (x - mean) / (std + 1e-5), std unbiased; the output is y * std + mean.
 * - constant_norm_rescale: c x with c = sqrt(dIn) / |x|; the output is y / c.
 */
export type InputNormalisation = "none" | "centre" | "layer_norm" | "constant_norm_rescale";

/** A sparse autoencoder or transcoder as plain data, whatever format it was published in. Matrices are row-major. */
export interface SaeDescription {
  /** The file the weights come from, as the user would find it. */
  readonly file: string;
  readonly format: "saelens" | "sparsify" | "dictionary_learning" | "gemma-scope" | "top-afa-sae";
  /** A transcoder predicts something else than its input: b_dec is never subtracted, normalisation not undone. */
  readonly kind: "autoencoder" | "transcoder";
  readonly dIn: number;
  readonly dSae: number;
  /** Equals dIn in an autoencoder. */
  readonly dOut: number;
  /** [dIn, dSae] */
  readonly wEnc: Float32Array;
  /** [dSae]; null where the family has none. */
  readonly bEnc: Float32Array | null;
  /** [dSae, dOut]; rows are unit vectors only where the format makes them so. */
  readonly wDec: Float32Array;
  /** [dOut] */
  readonly bDec: Float32Array;
  /** [dOut, dIn]: the output also has x W_skip^T, with x as it came. */
  readonly wSkip: Float32Array | null;
  /** Whether bDec is subtracted from the (normalised) input before encoding. */
  readonly subtractsBDec: boolean;
  readonly normalisation: InputNormalisation;
  readonly activation: SaeActivation;
  readonly hook: SaeHook;
  /** The model it was trained on, in the spelling of its publisher; null where the files do not say. */
  readonly modelName: string | null;
  /** It was trained on a model whose weights that write to the residual stream had no mean: see `forIgnoredMean`. */
  readonly centredWeights: boolean;
  /** What else was published with it, as it stands in its config. */
  readonly metadata: JsonObject;
}
