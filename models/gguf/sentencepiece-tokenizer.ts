import type { JsonObject } from "../model-file.js";
import type { MetadataFields } from "./metadata-fields.js";
import { specialTokens } from "./special-tokens.js";
import { addedTokens, readVocabulary, TokenType, type Vocabulary, vocabObject } from "./vocabulary.js";

const SPACE = "▁";
/** Longest piece, UTF-16 units: all ways to cut one are tried. Those of real vocabularies have up to 32. */
const MAX_PIECE = 256;

/**
 * tokenizer.json of a SentencePiece BPE vocabulary (tokenizer.ggml.model "llama"), as transformers converts one: two
 * pieces that make a token together are a merge, and the better the score of that token, the earlier the merge.
 * Characters without a token become the tokens of their bytes, where the vocabulary has them.
 * @throws ModelFormatError naming the key.
 */
export function sentencePieceTokenizer(fields: MetadataFields): JsonObject {
  const vocabulary = readVocabulary(fields);
  const { unknown } = specialTokens(fields, vocabulary.tokens.length);
  const prefix = fields.flag("tokenizer.ggml.add_space_prefix", true);
  return {
    added_tokens: addedTokens(vocabulary),
    normalizer: {
      type: "Sequence",
      normalizers: [
        ...(prefix ? [{ type: "Prepend", prepend: SPACE }] : []),
        { type: "Replace", pattern: { String: " " }, content: SPACE },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: SPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: "BPE",
      unk_token: unknown === null ? null : vocabulary.tokens[unknown],
      fuse_unk: true,
      byte_fallback: vocabulary.tokens.some((_, id) => vocabulary.types[id] === TokenType.byte),
      vocab: vocabObject(vocabulary),
      merges: mergesOf(fields, vocabulary),
    },
  };
}

interface Merge {
  readonly left: string;
  readonly right: string;
  readonly score: number;
}

function mergesOf(fields: MetadataFields, { tokens, types, ids }: Vocabulary): (readonly [string, string])[] {
  const scores = fields.numbers("tokenizer.ggml.scores");
  if (scores.length !== tokens.length)
    throw fields.refuse("tokenizer.ggml.scores", `there are ${tokens.length} tokens`);
  const idOf = (token: string) => ids.get(token) ?? -1;
  const isPiece = (token: string) => {
    const type = types[idOf(token)];
    return type === TokenType.normal || type === TokenType.userDefined;
  };
  const merges: Merge[] = [];
  for (const [id, token] of tokens.entries()) {
    const score = scores[id] ?? 0;
    if (Number.isNaN(score)) throw fields.refuse("tokenizer.ggml.scores", `token ${id} has the score NaN`);
    if (types[id] !== TokenType.normal) continue;
    if (token.length > MAX_PIECE)
      throw fields.refuse("tokenizer.ggml.tokens", `token ${id} has more than ${MAX_PIECE} characters`);
    const splits: Merge[] = [];
    for (let at = 1; at < token.length; at++) {
      const [left, right] = [token.slice(0, at), token.slice(at)];
      if (isPiece(left) && isPiece(right)) splits.push({ left, right, score });
    }
    splits.sort((a, b) => idOf(a.left) - idOf(b.left) || idOf(a.right) - idOf(b.right));
    for (const split of splits) merges.push(split);
  }
  return merges
    .sort((a, b) => b.score - a.score || lengthOf(b.left) - lengthOf(a.left) || lengthOf(b.right) - lengthOf(a.right))
    .map(({ left, right }) => [left, right] as const);
}

/** In characters, not UTF-16 units. */
const lengthOf = (token: string): number => [...token].length;
