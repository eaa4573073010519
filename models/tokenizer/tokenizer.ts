import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { ModelFormatError } from "../errors.js";
import { type ModelJson, openModelSource } from "../model-source.js";
import { exactSplits } from "./pre-tokenizer.js";
import { cutPattern, textPieces } from "./text-pieces.js";
import { packTokenBytes, type TokenBytes } from "./token-bytes.js";
import { type TokenDecoder, tokenDecoder } from "./token-decoder.js";

/** A model's tokenizer.json, read. Encoding takes about 1 us per character: long texts belong on their own thread. */
export interface Tokenizer {
  /** Ids of a text. None are added; special tokens that stand in the text are recognised. */
  encode(text: string): number[];
  /**
   * Parts of a text, at least `length` UTF-16 units each where it can be cut at all, such that the ids of all parts are the
   * ids of the text. One part where this tokenizer or this text has no safe place.
   */
  pieces(text: string, length: number): Iterable<string>;
  /** Text of all ids together, special tokens left out. */
  decode(ids: readonly number[]): string;
  /** Bytes of every token. */
  readonly tokens: TokenBytes;
}

const Id = z.int().nonnegative();
/** Checked as a whole and handed through as it is: a schema of entries would copy 100,000 of them. */
const VocabularyById = z.custom<Record<string, number>>(
  (value) =>
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((id) => Number.isSafeInteger(id) && id >= 0),
  "must map tokens to ids",
);
const VocabularyByRank = z.array(z.tuple([z.string(), z.number()]));
const TokenizerFile = z.looseObject({
  added_tokens: z
    .array(
      z.looseObject({
        id: Id,
        content: z.string().min(1),
        special: z.boolean().default(false),
        rstrip: z.boolean().default(false),
      }),
    )
    .nullish(),
  normalizer: z.unknown(),
  pre_tokenizer: z.unknown(),
  post_processor: z.unknown(),
  decoder: z.unknown(),
  model: z
    .looseObject({
      // GPT-2's own file has no type.
      type: z.enum(["BPE", "Unigram"]).default("BPE"),
      vocab: z.union([VocabularyById, VocabularyByRank]),
      merges: z.array(z.unknown()).optional(),
      fuse_unk: z.boolean().nullish(),
      byte_fallback: z.boolean().nullish(),
    })
    .refine(
      (model) => model.type !== "BPE" || (model.merges && !Array.isArray(model.vocab)),
      "BPE needs vocab and merges",
    ),
});
type TokenizerFile = z.infer<typeof TokenizerFile>;

/**
 * The tokenizer of the model at `path`; null where it has none.
 * @param vocabSize number of ids that the model knows
 * @throws ModelFormatError where it is broken, of an unsupported kind, or has ids that the model does not know.
 */
export function openTokenizer(path: string, vocabSize: number): Tokenizer | null {
  const json = openModelSource(path).tokenizer();
  return json === null ? null : readTokenizer(json, vocabSize);
}

function readTokenizer({ file, value }: ModelJson, vocabSize: number): Tokenizer {
  const parsed = TokenizerFile.safeParse(value);
  if (!parsed.success) throw new ModelFormatError(file, z.prettifyError(parsed.error).replaceAll(/\s+/g, " "));
  const { data } = parsed;
  return attempt(file, () => {
    const tokens = tokenBytes(data, vocabSize);
    const library = new LibraryTokenizer(
      { ...data, added_tokens: data.added_tokens ?? [], pre_tokenizer: exactSplits(data.pre_tokenizer ?? null) },
      {},
    );
    const encode = (text: string) => library.encode(text, { add_special_tokens: false }).ids;
    const rules = {
      added: data.added_tokens ?? [],
      fusesUnknown: data.model.fuse_unk === true && data.model.byte_fallback !== true,
    };
    const cuts = cutPattern(tokens, rules, encode);
    return {
      tokens,
      encode,
      pieces: (text, length) => textPieces(text, length, cuts),
      decode: (ids) => tokens.decode(ids),
    };
  });
}

function tokenBytes(data: TokenizerFile, vocabSize: number): TokenBytes {
  const decoder: TokenDecoder = tokenDecoder(data.decoder);
  const { vocab } = data.model;
  const entries = Array.isArray(vocab) ? vocab.map(([token], id) => [token, id] as const) : Object.entries(vocab);
  const tokens: (Uint8Array | undefined)[] = new Array(vocabSize).fill(undefined);
  const put = (id: number, bytes: () => Uint8Array) => {
    if (id >= vocabSize) throw new Error(`it has token id ${id}, but the model knows only ids below ${vocabSize}`);
    tokens[id] = bytes();
  };
  for (const [token, id] of entries) put(id, () => decoder.bytes(token));
  const added = data.added_tokens ?? [];
  for (const { id, content } of added) put(id, () => decoder.added(content));
  return packTokenBytes(
    tokens,
    new Set(added.filter((token) => token.special).map((token) => token.id)),
    decoder.strip,
  );
}

function attempt<T>(file: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw new ModelFormatError(file, error instanceof Error ? error.message : String(error));
  }
}
