import { z } from "zod";
import { ModelFormatError } from "../errors.js";
import type { TokenizerJson } from "../model-source.js";

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
const VocabularyByRank = z.custom<readonly (readonly [string, number])[]>(
  (value) => Array.isArray(value) && value.every((entry) => Array.isArray(entry) && typeof entry[0] === "string"),
  "must be a list of tokens and scores",
);

const AddedToken = z.looseObject({
  id: Id,
  content: z.string(),
  single_word: z.boolean().default(false),
  rstrip: z.boolean().default(false),
});

/** What is read of a tokenizer.json beside the library; the library checks the rest. */
const TokenizerFile = z.looseObject({
  added_tokens: z.array(AddedToken).nullish(),
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  decoder: z.unknown().optional(),
  model: z.looseObject({
    // The oldest files have no type.
    type: z.enum(["BPE", "Unigram", "WordPiece", "WordLevel"]).optional(),
    vocab: z.union([VocabularyById, VocabularyByRank]),
    dropout: z
      .number()
      .nullish()
      .refine((dropout) => !dropout, "would give other ids each time; it must be null"),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
  }),
});
export type TokenizerFile = z.infer<typeof TokenizerFile>;

/** @throws ModelFormatError naming the field. */
export function parseTokenizerFile({ file, value }: TokenizerJson): TokenizerFile {
  const parsed = TokenizerFile.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ModelFormatError(file, z.prettifyError(parsed.error).replaceAll(/\s+/g, " "));
}

/** Tokens of the model itself and their ids. */
export function* vocabularyOf({ model: { vocab } }: TokenizerFile): Generator<readonly [string, number]> {
  if (!Array.isArray(vocab)) return yield* Object.entries(vocab);
  for (const [id, [token]] of vocab.entries()) yield [token, id];
}
