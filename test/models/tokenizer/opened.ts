import { openTokenizer, type Tokenizer } from "../../../models/tokenizer/tokenizer.js";

/** @throws Error where the model has no tokenizer. */
export async function opened(path: string, vocabSize: number): Promise<Tokenizer> {
  const tokenizer = await openTokenizer(path, vocabSize);
  if (!tokenizer) throw new Error(`no tokenizer in ${path}`);
  return tokenizer;
}

export const openEmbedded = (): Promise<Tokenizer> => opened("models/default", 4096);

/** Ids of a text that is encoded in pieces of `length` characters or more. */
export async function inPieces(tokenizer: Tokenizer, text: string, length: number): Promise<Int32Array> {
  const ids: number[] = [];
  for (const piece of tokenizer.pieces(text, length)) ids.push(...(await tokenizer.encode(piece)));
  return Int32Array.from(ids);
}
