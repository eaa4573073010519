import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { ModelFormatError } from "../errors.js";
import { packageRoot } from "../package-root.js";

/** A text that a model is run on to learn how large its numbers get. */
export interface CalibrationText {
  readonly file: string;
  readonly text: string;
  /** Whether it belongs to the model, not to this package. */
  readonly own: boolean;
}

const NAME = "calibration.txt";
/** Bytes that are read of a text. A model is calibrated with far fewer. */
const MOST_BYTES = 1 << 16;

/**
 * The calibration text of the model at `path`: calibration.txt in its folder, or beside its GGUF file; where there is none,
 * that of this package. Of a long one it is the beginning.
 * @throws ModelFormatError where the model's own cannot be read or is empty.
 */
export function calibrationText(path: string): CalibrationText {
  const folder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ? path : dirname(path);
  const file = join(folder, NAME);
  if (!existsSync(file)) {
    const shipped = join(packageRoot(), "models", "calibration", NAME);
    return { file: shipped, text: readFileSync(shipped, "utf8"), own: false };
  }
  const text = readOwn(file);
  if (text.trim() === "") throw new ModelFormatError(file, "it is empty: put a text there, or remove it");
  return { file, text, own: true };
}

/** The beginning of a file, which may be cut within a character. */
function readOwn(file: string): string {
  try {
    const fd = openSync(file, "r");
    try {
      const bytes = new Uint8Array(MOST_BYTES);
      const read = readSync(fd, bytes);
      return new TextDecoder().decode(bytes.subarray(0, read), { stream: true });
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new ModelFormatError(file, `the file cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}
