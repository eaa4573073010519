import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ModelShape } from "../../models/graph-interface.js";
import { openTokenizer } from "../../models/tokenizer/tokenizer.js";

const MODEL = join("models", "default");
const TEXT = join("test", "data", "the-wind-in-the-willows.txt");

/** The first tokens of a book that the embedded model was not trained on, its first token before them. */
export function heldOutTokens({ vocabSize, bosTokenId }: ModelShape, count: number): number[] {
  const tokenizer = openTokenizer(MODEL, vocabSize);
  if (tokenizer === null) throw new Error(`${MODEL} has no tokenizer`);
  const text = tokenizer.encode(readFileSync(TEXT, "utf8"));
  return [...(bosTokenId === null ? [] : [bosTokenId]), ...text].slice(0, count);
}
