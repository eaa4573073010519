import type { JsonObject } from "../model-file.js";
import { NO_FRAME, type TextFrame } from "../tokenizer/text-frame.js";
import { bytePairTokenizer, preTokenizer } from "./byte-pair-tokenizer.js";
import type { MetadataFields } from "./metadata-fields.js";
import { sentencePieceTokenizer } from "./sentencepiece-tokenizer.js";
import type { SpecialTokens } from "./special-tokens.js";

interface Kind {
  readonly json: (fields: MetadataFields) => JsonObject;
  /** Whether a prompt begins with the beginning-of-text token where the file does not say. */
  readonly addsBos: (fields: MetadataFields) => boolean;
}

/** By tokenizer.ggml.model. */
const KINDS: ReadonlyMap<string, Kind> = new Map([
  ["gpt2", { json: bytePairTokenizer, addsBos: (fields: MetadataFields) => preTokenizer(fields).addsBos }],
  ["llama", { json: sentencePieceTokenizer, addsBos: () => true }],
]);

/**
 * What a tokenizer.json would hold for the vocabulary of a GGUF file; null where the file has none.
 * @throws ModelFormatError naming the key.
 */
export const tokenizerJson = (fields: MetadataFields): JsonObject | null => kindOf(fields)?.json(fields) ?? null;

/** The tokens that the file puts around a text. */
export function ggufFrame(fields: MetadataFields, { bos, eos }: SpecialTokens): TextFrame {
  const kind = kindOf(fields);
  if (kind === null) return NO_FRAME;
  const addsBos = fields.flag("tokenizer.ggml.add_bos_token", null) ?? kind.addsBos(fields);
  const addsEos = fields.flag("tokenizer.ggml.add_eos_token", false);
  return { before: addsBos && bos !== null ? [bos] : [], after: addsEos && eos !== null ? [eos] : [] };
}

/** Whether the file has one, of whatever kind. */
export const hasTokenizer = (fields: MetadataFields): boolean =>
  fields.has("tokenizer.ggml.model") || fields.has("tokenizer.ggml.tokens");

function kindOf(fields: MetadataFields): Kind | null {
  if (!hasTokenizer(fields)) return null;
  const name = fields.text("tokenizer.ggml.model", null);
  const kind = name === null ? undefined : KINDS.get(name);
  if (kind === undefined)
    throw fields.refuse(
      "tokenizer.ggml.model",
      `the kinds of tokenizer known here are ${[...KINDS.keys()].join(", ")}`,
    );
  return kind;
}
