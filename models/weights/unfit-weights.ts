import { ModelFormatError } from "../errors.js";
import type { ElementType } from "../onnx/graph.js";
import { fitsF16 } from "./half-precision.js";

/** Names of tensors that an error lists. */
const LISTED = 8;

/** Tensors of a checkpoint, found while it is read, that cannot be kept: name, and file. */
export class UnfitWeights {
  readonly #notFinite = new Map<string, string>();
  readonly #tooLarge = new Map<string, string>();

  has(tensor: string): boolean {
    return this.#notFinite.has(tensor) || this.#tooLarge.has(tensor);
  }

  /** @param type what the values are to be kept in */
  look(values: Float32Array, type: ElementType, tensor: string, file: string): void {
    if (!allFinite(values)) this.#notFinite.set(tensor, file);
    else if (type === "float16" && !fitsF16(values)) this.#tooLarge.set(tensor, file);
  }

  /** @throws ModelFormatError naming the tensors, if there are any. */
  refuse(): void {
    refuse(this.#notFinite, (names) => `NaN or infinite values in ${names}`);
    const remedy = "take --precision bf16 or f32";
    refuse(this.#tooLarge, (names) => `values beyond 65,504, the largest number of f16, in ${names}: ${remedy}`);
  }
}

function refuse(tensors: ReadonlyMap<string, string>, reason: (names: string) => string): void {
  const [first] = tensors.values();
  if (first === undefined) return;
  const names = [...tensors.keys()];
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : "";
  throw new ModelFormatError(first, reason(`${names.slice(0, LISTED).join(", ")}${more}`));
}

function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}
