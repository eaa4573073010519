import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ModelShape } from "../../models/model-shape.js";
import { openTokenizer } from "../../models/tokenizer/tokenizer.js";

const BOOK = join("test", "data", "the-wind-in-the-willows.txt");

/**
 * The first tokens of a text, the model's first token before them.
 * @param text left out: a book that the embedded model was not trained on
 */
export async function heldOutTokens(
  model: string,
  { vocabSize, bosTokenId }: ModelShape,
  count: number,
  text: string = BOOK,
): Promise<number[]> {
  const tokenizer = await openTokenizer(model, vocabSize);
  if (tokenizer === null) throw new Error(`${model} has no tokenizer`);
  const tokens = await tokenizer.encode(readFileSync(text, "utf8"));
  return [...(bosTokenId === null ? [] : [bosTokenId]), ...tokens].slice(0, count);
}
