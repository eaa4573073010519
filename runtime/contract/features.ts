import type { HookName } from "../../models/hooks.js";
import type { JsonObject } from "../../models/model-file.js";
import type { ChosenActivation } from "../../models/sae/chosen-activation.js";

/**
 * The part of the engine's contract (generation.ts) that concerns sparse autoencoders: what is read at a token, what is
 * changed there, and what an attached SAE is. Plain data, as everything that crosses the engine's thread.
 */

/** What a sequence's tokens are read with. */
export interface FeatureRequest {
  /** Ids of attached SAEs; readings come in this order. */
  readonly saes: readonly string[];
  /** Features per token and SAE at most. */
  readonly top: number;
  readonly activation: ChosenActivation;
  /** Prompt tokens are read too. */
  readonly prompt: boolean;
}

/**
 * The reading of one SAE at one token: its scalars and its strongest features. It reads the residual stream at the token's
 * own position, before edits, and cuts activations as the request says. Values are NaN where the residual is.
 */
export interface SaeReading {
  readonly sae: string;
  /** Features kept by the cut that are above 0; `indices` and `values` are the strongest of them. */
  readonly l0: number;
  /** |normalised x - b_dec| */
  readonly z: number;
  /** sqrt(sum of kept (activation * |decoder row|)^2) */
  readonly f: number;
  /** |z^2 - f^2| / ((d_sae - 1) f^2); null where f is 0, and with 8 bits where z^2 and f^2 differ by less than 5 % of f^2. */
  readonly epsLbo: number | null;
  /** Mean square of x - reconstruction, on x's scale. */
  readonly mse: number;
  /** At most `top` features, by activation * |decoder row| downwards. */
  readonly indices: Uint32Array;
  /** Their activations. */
  readonly values: Float32Array;
}

/**
 * A change of one feature: with a its activation at the unedited residual x, x gains delta * (decoder
 * row), where delta = -a | value | (value - 1) a | value - a. All edits of a hook happen at once. The activation is the
 * SAE's own, in f32, whatever features are read with.
 */
export interface FeatureEdit {
  readonly sae: string;
  readonly feature: number;
  readonly op: "ablate" | "add" | "scale" | "clamp";
  /** 0 for ablate. */
  readonly value: number;
  /** kept: a is 0 where the SAE's own cut does not keep the feature; pre: as it is before any cut. add has no a. */
  readonly from: "kept" | "pre";
}

/** Largest magnitude of an edit's value. */
export const LARGEST_EDIT = 1e6;
/** Edits of one sequence. */
export const MOST_EDITS = 256;

/**
 * The first edit of a feature that another one before it edits already, and that one; null: there is none. Additions to one
 * feature add up; of other edits nobody could say in which order they happen.
 */
export function repeatedEdit(
  edits: readonly FeatureEdit[],
): { readonly first: number; readonly second: number } | null {
  const known = new Map<string, number>();
  for (const [second, { sae, feature, op }] of edits.entries()) {
    const key = `${feature} ${sae}`;
    const first = known.get(key);
    if (first === undefined) known.set(key, second);
    else if (op !== "add" || edits[first]?.op !== "add") return { first, second };
  }
  return null;
}

/** An attached SAE, for GET /v1/saes and for checking requests. */
export interface SaeCard {
  readonly id: string;
  readonly hook: HookName;
  readonly format: "saelens" | "sparsify" | "dictionary_learning" | "gemma-scope" | "top-afa-sae";
  readonly activation: "relu" | "jumprelu" | "gated" | "top-k" | "group-max" | "top-afa";
  /** k of a top-k SAE, groups of a group-max one; else null. */
  readonly k: number | null;
  readonly normalisation: "none" | "centre" | "layer_norm" | "constant_norm_rescale";
  readonly dIn: number;
  readonly dSae: number;
  /** Of the encoder. */
  readonly precision: "f32" | "q8";
  /** The model it was trained on, as its files say. */
  readonly modelName: string | null;
  /** What else its files say. */
  readonly metadata: JsonObject;
}

/** One feature, seen through the model's output matrix and beside its neighbours. */
export interface FeatureDescription {
  readonly sae: string;
  readonly feature: number;
  /** Length of its decoder row. */
  readonly decoderNorm: number;
  /** Tokens whose logits its decoder row raises most, through the final norm's gain, best first; and lowers most. */
  readonly topTokens: readonly TokenLogit[];
  readonly bottomTokens: readonly TokenLogit[];
  /** Features with the nearest decoder directions, itself left out. */
  readonly nearest: readonly { readonly feature: number; readonly cosine: number }[];
}

export interface TokenLogit {
  readonly tokenId: number;
  readonly logit: number;
}
