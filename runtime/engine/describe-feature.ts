import { largestInOrder } from "../../models/largest.js";
import type { FeatureDescription, TokenLogit } from "../contract/features.js";
import type { Runner } from "../graphs/runner.js";
import type { AttachedSaes } from "../saes/attached-saes.js";

/**
 * A feature through the model's output matrix (W_dec W_U with the final norm's gain, no norm: the logit lens on a decoder
 * row) and beside its neighbours; `top` entries of each list.
 */
export function describeFeature(
  runner: Runner,
  saes: AttachedSaes,
  { sae, feature, top }: { readonly sae: string; readonly feature: number; readonly top: number },
): FeatureDescription {
  const vectors = saes.vectors(sae);
  const row = vectors.decoderRow(feature);
  const logits = runner.lens(row);
  return {
    sae,
    feature,
    decoderNorm: Math.hypot(...row),
    topTokens: extremes(logits, top, 1),
    bottomTokens: extremes(logits, top, -1),
    nearest: vectors.nearest(feature, top),
  };
}

/** The largest logits (sign 1) or the smallest (sign -1), the most extreme first. */
function extremes(logits: Float32Array, top: number, sign: 1 | -1): TokenLogit[] {
  const signed = logits.map((logit) => sign * logit);
  const found = new Int32Array(Math.min(top, signed.length));
  largestInOrder(signed, top, found);
  return Array.from(found, (tokenId) => ({ tokenId, logit: sign * (signed[tokenId] ?? 0) }));
}
