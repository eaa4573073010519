import type { ChosenActivation } from "../../models/sae/chosen-activation.js";
import type { CompiledSae } from "../../models/sae/compile-sae.js";
import type { Tensor } from "../ort/tensor.js";
import type { RowReading } from "./row-reading.js";
import type { SaeVectors } from "./sae-vectors.js";

/** A row of residuals that is to be read, and how. */
export interface RowRequest {
  readonly row: number;
  readonly activation: ChosenActivation;
  /** Features that are listed at most. */
  readonly top: number;
}

/** Reads features off residuals with one SAE. */
export interface FeatureReader extends Disposable {
  readonly sae: CompiledSae;
  readonly vectors: SaeVectors;

  /**
   * Begins to read rows of residuals [rows, dIn] and need not wait, so that others can be begun meanwhile. Rows are read
   * together as far as they can be, whatever each asks for. The mse of a transcoder, which does not reconstruct its input,
   * is NaN.
   * @returns what gives a reading for each of `asked`; it is called before this reader begins again, while the residuals
   * are there
   * @throws RangeError as `checkChosen`, for a row that is not there, or if residuals are not whole rows.
   */
  start(residuals: Float32Array | Tensor, asked: readonly RowRequest[]): () => RowReading[];
}

/** The number of rows of residuals. @throws RangeError as `FeatureReader.start`. */
export function checkedRows(size: number, dIn: number, asked: readonly RowRequest[]): number {
  const rows = size / dIn;
  if (!Number.isInteger(rows)) throw new RangeError(`${size} values are not rows of ${dIn}`);
  for (const { row } of asked)
    if (!(Number.isInteger(row) && row >= 0 && row < rows))
      throw new RangeError(`there is no row ${row} among ${rows}`);
  return rows;
}
