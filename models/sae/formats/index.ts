import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { ModelFormatError } from "../../errors.js";
import type { SaeDescription } from "../sae.js";
import { DICTIONARY_LEARNING_WEIGHTS, readDictionaryLearning } from "./dictionary-learning.js";
import { GEMMA_SCOPE_WEIGHTS, readGemmaScope } from "./gemma-scope.js";
import { readSaelens, SAELENS_WEIGHTS } from "./saelens.js";
import { readSparsify, SPARSIFY_WEIGHTS } from "./sparsify.js";
import { readTopAfaSae, TOP_AFA_WEIGHTS } from "./top-afa-sae.js";

interface Format {
  readonly name: string;
  /** The file of weights that only this format has. */
  readonly weights: string;
  readonly read: (folder: string) => SaeDescription | Promise<SaeDescription>;
}

const FORMATS: readonly Format[] = [
  { name: "SAELens", weights: SAELENS_WEIGHTS, read: readSaelens },
  { name: "sparsify", weights: SPARSIFY_WEIGHTS, read: readSparsify },
  { name: "dictionary_learning", weights: DICTIONARY_LEARNING_WEIGHTS, read: readDictionaryLearning },
  { name: "Gemma Scope", weights: GEMMA_SCOPE_WEIGHTS, read: readGemmaScope },
  { name: "top-afa-sae", weights: TOP_AFA_WEIGHTS, read: readTopAfaSae },
];

/**
 * Reads an SAE as it was published, from the folder that holds its weights; the format is told by the weights' file name.
 * @throws ModelFormatError saying what is not understood; nothing is guessed.
 */
export async function openSae(folder: string): Promise<SaeDescription> {
  if (!existsSync(folder)) throw new ModelFormatError(folder, "there is no such folder");
  if (!statSync(folder).isDirectory())
    throw new ModelFormatError(folder, "this is a file, but an SAE is read from the folder that it was published in");
  const [format, second] = FORMATS.filter(({ weights }) => existsSync(join(folder, weights)));
  if (format && second)
    throw new ModelFormatError(folder, `it holds two SAEs: ${format.weights} and ${second.weights}`);
  if (format) return format.read(folder);
  const known = FORMATS.map(({ name, weights }) => `${weights} (${name})`).join(", ");
  throw new ModelFormatError(folder, `there is no SAE in this folder; it would be one of: ${known}`);
}
