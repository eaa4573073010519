import type { MetadataFields } from "./metadata-fields.js";

/** token_type of the format. */
export const TokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
const LARGEST_TYPE = 6;
/** Tokens that text can name: in a text they are recognised before anything else is done to it. */
const ADDED: readonly number[] = [TokenType.unknown, TokenType.control, TokenType.userDefined];

/** The tokens of a file. `types[id]` is one of `TokenType`. */
export interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: ArrayLike<number>;
  readonly ids: ReadonlyMap<string, number>;
}

/** @throws ModelFormatError naming the key, or the two ids of a token that occurs twice. */
export function readVocabulary(fields: MetadataFields): Vocabulary {
  const tokens = fields.texts("tokenizer.ggml.tokens");
  const types =
    fields.numbers("tokenizer.ggml.token_type", null) ?? new Uint8Array(tokens.length).fill(TokenType.normal);
  if (types.length !== tokens.length)
    throw fields.refuse("tokenizer.ggml.token_type", `there are ${tokens.length} tokens`);
  const ids = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) {
    const [token = "", type = 0] = [tokens[id], types[id]];
    if (!(Number.isInteger(type) && type >= TokenType.normal && type <= LARGEST_TYPE))
      throw fields.refuse("tokenizer.ggml.token_type", `token ${id} has the unknown type ${type}`);
    const before = ids.get(token);
    if (before !== undefined)
      throw fields.refuse("tokenizer.ggml.tokens", `tokens ${before} and ${id} have the same text`);
    ids.set(token, id);
  }
  return { tokens, types, ids };
}

/** `added_tokens` of tokenizer.json. Text leaves the special ones out. */
export const addedTokens = ({ tokens, types }: Vocabulary) =>
  tokens.flatMap((content, id) => {
    const type = types[id] ?? 0;
    if (content === "" || !ADDED.includes(type)) return [];
    const special = type !== TokenType.userDefined;
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });

/** `vocab` of tokenizer.json's model. */
export const vocabObject = ({ ids }: Vocabulary): Record<string, number> => Object.fromEntries(ids);
