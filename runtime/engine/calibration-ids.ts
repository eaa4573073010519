import { calibrationText } from "../../models/calibration/calibration-text.js";
import { ModelFormatError } from "../../models/errors.js";
import { InvalidRequest } from "../contract/errors.js";
import type { Encoder } from "../prompts/encoder.js";

/**
 * Ids of the text that the model at `path` is calibrated with; null where it has no tokenizer, or one that has no ids for the
 * text of this package.
 * @throws ModelFormatError where a text of its own cannot be read or has no ids.
 */
export async function calibrationIds(path: string, encoder: Encoder | null): Promise<Int32Array<ArrayBuffer> | null> {
  const { file, text, own } = calibrationText(path);
  if (encoder === null) return null;
  try {
    return await encoder.encode(text, "calibration");
  } catch (error) {
    if (!(error instanceof InvalidRequest)) throw error;
    if (own) throw new ModelFormatError(file, error.message);
    return null;
  }
}
