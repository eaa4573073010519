import { ModelFormatError } from "../errors.js";
import type { ModelShape } from "../model-shape.js";
import type { SaeDescription } from "./sae.js";

/** Why an SAE of centred weights cannot read a model, a sentence's part; null: it can. */
export const centringProblem = (
  { centredWeights }: Pick<SaeDescription, "centredWeights">,
  { modelType, shape }: { readonly modelType: string; readonly shape: Pick<ModelShape, "ignoresMean"> },
): string | null =>
  centredWeights && shape.ignoresMean === "partly"
    ? `it was trained with center_writing_weights, which makes another residual stream of a ${modelType}'s`
    : null;

/**
 * An SAE as it reads a model that ignores the mean of its residual stream. One that was trained with centred writing weights
 * has read the stream less its mean: so it does here. An edit needs no more, as the model ignores what it does to the mean.
 * @throws ModelFormatError where the input is also rescaled to a constant length, which would be the length without the mean
 */
export function forIgnoredMean(sae: SaeDescription): SaeDescription {
  if (!sae.centredWeights || sae.normalisation === "layer_norm" || sae.normalisation === "centre") return sae;
  if (sae.normalisation === "none") return { ...sae, normalisation: "centre" };
  throw new ModelFormatError(
    sae.file,
    `it was trained with center_writing_weights and normalises its input by ${sae.normalisation}: both together are not known here`,
  );
}
