import { existsSync, readFileSync, statSync } from "node:fs";
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
/** This is far more than is read of a text. */
const LARGEST_BYTES = 1 << 16;

/**
 * The calibration text of the model at `path`: calibration.txt in its folder, or beside its GGUF file; where there is none,
 * that of this package.
 * @throws ModelFormatError where the model's own cannot be read, is empty or is larger than 64 KiB.
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

function readOwn(file: string): string {
  try {
    const { size } = statSync(file);
    if (size > LARGEST_BYTES) throw new Error(`it has ${size} bytes, and at most ${LARGEST_BYTES} are read`);
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new ModelFormatError(file, `the file cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}
