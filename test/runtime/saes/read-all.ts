import type { ChosenActivation } from "../../../models/sae/chosen-activation.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import type { FeatureReader, RowRequest } from "../../../runtime/saes/feature-reader.js";
import type { RowReading } from "../../../runtime/saes/row-reading.js";

/** Begins to read every row of residuals [rows, dIn] alike. */
export function startAll(
  reader: FeatureReader,
  residuals: Float32Array | Tensor,
  activation: ChosenActivation,
  top: number,
): () => RowReading[] {
  const size = residuals instanceof Tensor ? residuals.size : residuals.length;
  const rows = size / reader.sae.description.dIn;
  return reader.start(
    residuals,
    Array.from({ length: rows }, (_, row): RowRequest => ({ row, activation, top })),
  );
}

/** Reads every row of residuals [rows, dIn] alike. */
export const readAll = (...asked: Parameters<typeof startAll>): RowReading[] => startAll(...asked)();
