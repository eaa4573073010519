import type { SaeDescription } from "./sae.js";

/**
 * How features are chosen: as the SAE was trained, by top-AFA, or the k largest. The last two start from the SAE's own
 * activations (biases, thresholds and gates applied) before any cut of its own.
 */
export type ChosenActivation =
  | { readonly kind: "native" }
  | { readonly kind: "top-afa" }
  | { readonly kind: "top-k"; readonly k: number };

/**
 * @throws RangeError if top-AFA is asked of a transcoder, whose output has nothing to do with the norm of its input, or k
 * is not a whole number of features.
 */
export function checkChosen(
  { kind, file, dSae }: Pick<SaeDescription, "kind" | "file" | "dSae">,
  chosen: ChosenActivation,
): void {
  if (chosen.kind === "top-afa" && kind === "transcoder")
    throw new RangeError(`top-AFA is for autoencoders, and ${file} is a transcoder`);
  if (chosen.kind === "top-k" && !(Number.isInteger(chosen.k) && chosen.k >= 1 && chosen.k <= dSae))
    throw new RangeError(`top-k keeps a whole number from 1 to ${dSae} of features, not ${chosen.k}`);
}
