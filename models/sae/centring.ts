import { ModelFormatError } from "../errors.js";
import type { SaeDescription } from "./sae.js";

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
