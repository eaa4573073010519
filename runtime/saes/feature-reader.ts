import type { ChosenActivation } from "../../models/sae/chosen-activation.js";
import type { CompiledSae } from "../../models/sae/compile-sae.js";
import type { Tensor } from "../ort/tensor.js";
import type { RowReading } from "./row-reading.js";
import type { SaeVectors } from "./sae-vectors.js";

/** Reads features off residuals with one SAE. */
export interface FeatureReader extends Disposable {
  readonly sae: CompiledSae;
  readonly vectors: SaeVectors;

  /**
   * Begins to read rows of residuals [rows, dIn] and need not wait, so that others can be begun meanwhile. The mse of a
   * transcoder, which does not reconstruct its input, is NaN.
   * @returns what gives the reading of every row; it is called before this reader begins again, while the residuals are there
   * @throws RangeError as `checkChosen`, or if residuals are not whole rows.
   */
  start(residuals: Float32Array | Tensor, activation: ChosenActivation, top: number): () => RowReading[];
}
