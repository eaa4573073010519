import type { MetadataFields } from "./metadata-fields.js";

/** Ids of tokens with a meaning of their own; null where the file names none. */
export interface SpecialTokens {
  readonly bos: number | null;
  readonly eos: number | null;
  readonly unknown: number | null;
  readonly padding: number | null;
  /** End of a turn, and of a message that waits for a tool. */
  readonly endOfTurn: number | null;
  readonly endOfMessage: number | null;
}

/** What SentencePiece's ids are where a file does not say, as in llama.cpp. */
const SENTENCEPIECE = { bos: 1, eos: 2, unknown: 0 };

/** @throws ModelFormatError naming the key of an id that is not below `vocabSize`. */
export function specialTokens(fields: MetadataFields, vocabSize: number): SpecialTokens {
  const must = `it must be the id of a token, from 0 to ${vocabSize - 1}`;
  const id = (name: string, absent: number | null = null) =>
    fields.whole(`tokenizer.ggml.${name}_token_id`, { min: 0, max: vocabSize - 1, must }, absent);
  const usual = fields.text("tokenizer.ggml.model", null) === "llama" ? SENTENCEPIECE : null;
  return {
    bos: id("bos", usual?.bos),
    eos: id("eos", usual?.eos),
    unknown: id("unknown", usual?.unknown),
    padding: id("padding"),
    endOfTurn: id("eot"),
    endOfMessage: id("eom"),
  };
}
