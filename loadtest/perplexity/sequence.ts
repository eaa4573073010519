import type { Document } from "../documents.js";
import { complete } from "../target/completion.js";
import { TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";

/** Documents behind each other as token ids; each begins with the model's beginning-of-text token, where it has one. */
export interface TokenSequence {
  readonly ids: readonly number[];
  /** Where documents begin. */
  readonly documents: readonly { readonly name: string; readonly start: number }[];
}

/** Characters that are sent at once: a long book, and few enough for the body of any server. */
const PIECE = 4_000_000;

/**
 * The first `limit` tokens of the documents, as the server's tokenizer has them (a request that computes nothing).
 * @throws TargetFailure
 */
export async function encodeDocuments(
  target: Target,
  documents: readonly Document[],
  limit: number,
  signal?: AbortSignal,
): Promise<TokenSequence> {
  const ids: number[] = [];
  const starts: { name: string; start: number }[] = [];
  for (const { name, text } of documents) {
    if (ids.length >= limit) break;
    starts.push({ name, start: ids.length });
    for (const [i, piece] of piecesOf(text, PIECE).entries()) {
      if (ids.length >= limit) break;
      const encoded = await encode(target, piece, signal);
      const bos = i > 0 && target.lambdatap?.adds_bos && encoded[0] === target.lambdatap.bos_token_id ? 1 : 0;
      for (const id of encoded.slice(bos, bos + limit - ids.length)) ids.push(id);
    }
  }
  return { ids, documents: starts };
}

/** A text in pieces of at most `most` characters, cut behind a paragraph, else a line, else a word, else anywhere. */
export function piecesOf(text: string, most: number): string[] {
  const pieces: string[] = [];
  let rest = text;
  while (rest.length > most) {
    const head = rest.slice(0, most);
    const cut = ["\n\n", "\n", " "].map((end) => head.lastIndexOf(end) + end.length).find((at) => at > most / 2);
    const isPair = /[\ud800-\udbff]$/.test(head);
    const end = cut ?? (isPair ? most - 1 : most);
    pieces.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  return [...pieces, rest];
}

async function encode(target: Target, prompt: string, signal?: AbortSignal): Promise<readonly number[]> {
  const { prompt_token_ids: ids } = await complete(target, { prompt, max_tokens: 0, return_token_ids: true }, signal);
  if (!ids || ids.length === 0)
    throw new TargetFailure("nonsense", `${target.url} gives no prompt_token_ids for a text`, 200);
  return ids;
}
