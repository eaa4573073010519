import { largestFirst } from "../../../../models/sae/largest-first.js";
import type { SaeActivation } from "../../../../models/sae/sae.js";
import { topAfaPlaces } from "../../../../models/sae/top-afa.js";

/** Which features of a row are kept. */
export interface Cut {
  /** Places kept: top-AFA counts places that hold 0 as well, so k is at least 1; elsewhere the number of kept features. */
  readonly k: number;
  /** Kept features with an activation above 0, in no particular order. */
  readonly features: readonly number[];
}

/** @param shares [dSae] s, the squared lengths of what each feature adds to the output */
export function topAfaCut(shares: Float64Array, norm: number, activations: Float64Array): Cut {
  const next = largestFirst(shares);
  const features: number[] = [];
  const k = topAfaPlaces(shares.length, norm, { places: 0, sum: 0 }, () => {
    const feature = next();
    if (feature === undefined) return undefined;
    features.push(feature);
    return shares[feature];
  });
  return k === null ? { k: shares.length, features: active(activations) } : { k, features: features.slice(0, k) };
}

/** The k largest activations, of equal ones the lowest feature. */
export function topKCut(activations: Float64Array, k: number): Cut {
  const next = largestFirst(activations);
  const features: number[] = [];
  for (let feature = next(); feature !== undefined && features.length < k; feature = next()) features.push(feature);
  return { k: features.length, features };
}

/** What the SAE itself keeps of its activations. */
export function nativeCut(
  activation: SaeActivation,
  shares: Float64Array,
  norm: number,
  activations: Float64Array,
): Cut {
  switch (activation.kind) {
    case "top-afa":
      return topAfaCut(shares, norm, activations);
    case "top-k":
      return topKCut(activations, activation.k);
    case "group-max":
      return groupMaxCut(activations, activation.groups);
    default: {
      const features = active(activations);
      return { k: features.length, features };
    }
  }
}

function groupMaxCut(activations: Float64Array, groups: number): Cut {
  const size = activations.length / groups;
  const features: number[] = [];
  for (let first = 0; first < activations.length; first += size) {
    const group = activations.subarray(first, first + size);
    const largest = group.reduce((best, value, i) => (value > (group[best] ?? 0) ? i : best), 0);
    if ((group[largest] ?? 0) > 0) features.push(first + largest);
  }
  return { k: features.length, features };
}

function active(activations: Float64Array): number[] {
  const features: number[] = [];
  for (const [feature, value] of activations.entries()) if (value > 0) features.push(feature);
  return features;
}
