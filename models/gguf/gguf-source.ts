import type { ChatTemplate, ModelSource } from "../model-source.js";
import { openGgufCheckpoint } from "./gguf-checkpoint.js";
import { ggufConfig } from "./gguf-config.js";
import { readGgufFiles } from "./gguf-files.js";
import type { MetadataFields } from "./metadata-fields.js";
import { type SpecialTokens, specialTokens } from "./special-tokens.js";
import { ggufFrame, hasTokenizer, tokenizerJson } from "./tokenizer-json.js";

/**
 * A model in a GGUF file, or in several of which `path` is the first. The headers are read now, the rest when asked for.
 * @throws ModelFormatError as `readGgufFiles`.
 */
export function openGguf(path: string): ModelSource {
  const model = readGgufFiles(path);
  const { fields } = model;
  return {
    path,
    configFile: path,
    config: () => ggufConfig(model),
    generation: () => {
      const tokens = tokensOf(fields);
      const { bos, eos, endOfTurn, endOfMessage } = tokens;
      const ends = [eos, endOfTurn, endOfMessage].filter((id) => id !== null);
      return {
        bosTokenId: bos ?? undefined,
        frame: ggufFrame(fields, tokens),
        eosTokenIds: ends.length > 0 ? [...new Set(ends)] : undefined,
      };
    },
    hasTokenizer: () => hasTokenizer(fields),
    tokenizer: () => {
      const value = tokenizerJson(fields);
      return value === null ? null : { file: path, value, text: JSON.stringify(value) };
    },
    chatTemplate: () => chatTemplate(fields),
    openCheckpoint: () => openGgufCheckpoint(model),
  };
}

const MAX_TOKENS = 2 ** 31;

const tokensOf = (fields: MetadataFields): SpecialTokens =>
  specialTokens(fields, fields.texts("tokenizer.ggml.tokens", null)?.length ?? MAX_TOKENS);

function chatTemplate(fields: MetadataFields): ChatTemplate | null {
  const template = fields.text("tokenizer.chat_template", "");
  const texts = fields.texts("tokenizer.ggml.tokens", null);
  // Without a tokenizer the model takes ids only, and a template can make none.
  if (template === "" || texts === null) return null;
  const { bos, eos, unknown, padding } = tokensOf(fields);
  const named = { bos_token: bos, eos_token: eos, unk_token: unknown, pad_token: padding };
  const tokens = Object.entries(named).flatMap(([name, id]) => (id === null ? [] : [[name, texts[id] ?? ""] as const]));
  return { file: fields.file, template, tokens: Object.fromEntries(tokens) };
}
