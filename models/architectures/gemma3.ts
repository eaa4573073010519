import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, whole } from "../config.js";
import type { Forward } from "../forward.js";
import { isJsonObject } from "../model-file.js";
import type { Architecture } from "./architecture.js";
import { DECODER_NAMES, decoder } from "./decoder.js";
import { decoderShape, readDecoder, rotary, withDefaults } from "./decoder-config.js";
import { refuseForeignFields } from "./foreign-fields.js";
import { GEMMA_DEFAULTS, type GemmaConfig, readGemmaScores, refuseOtherActivation } from "./gemma2.js";
import { layerWindows } from "./layer-geometry.js";

/** What transformers' class has where a config says nothing; those of published image models say little. */
const DEFAULTS = {
  ...GEMMA_DEFAULTS,
  vocab_size: 262_208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  max_position_embeddings: 131_072,
  sliding_window_pattern: 6,
  bos_token_id: 2,
  eos_token_id: 1,
};

const Gemma3File = z.object({ sliding_window_pattern: whole(1, 2 ** 40) });

/**
 * Gemma 3: Gemma 2 with norms over heads in place of the limit of scores, five layers with a sliding window to one
 * without, and a rotary base for each of the two kinds. Gemma Team 2025, arXiv 2503.19786.
 */
export const gemma3Text: Architecture<GemmaConfig> = {
  modelType: "gemma3_text",
  names: DECODER_NAMES,
  readConfig: readGemma3,
  shape: (c) => decoderShape(c, true),
  forward: (pass, c) => forward(pass, c, "model"),
};

/** The text model's place in the whole one. */
const WRAPPED = "model.language_model";

/** Gemma 3 as it is published with its eyes: the text model in it. */
export const gemma3: Architecture<GemmaConfig> = {
  modelType: "gemma3",
  names: {
    base: "model.",
    embedding: `${WRAPPED}.embed_tokens.weight`,
    head: "lm_head.weight",
    renamed: [
      ["language_model.model.", `${WRAPPED}.`],
      ["language_model.", `${WRAPPED}.`],
      ["language_model.lm_head.", "lm_head."],
      // As transformers 5.10 to 5.23 saved it.
      ["language_model.model.model.", `${WRAPPED}.`],
      ["model.language_model.model.", `${WRAPPED}.`],
    ],
  },
  readConfig: (fields) => readGemma3(textConfig(fields)),
  shape: (c) => decoderShape(c, true),
  forward: (pass, c) => forward(pass, c, WRAPPED),
};

function forward(pass: Forward, c: GemmaConfig, base: string): void {
  const { embed, layers, unembed } = decoder(pass, c, { base, plusOne: true });
  let h = embed({ scale: Math.sqrt(c.hiddenSize) });
  for (const layer of layers) {
    h = layer.enter(h);
    const heads = layer.normHeads(layer.byHead(layer.project(layer.norm("input_layernorm", h))));
    const attended = layer.attend(heads, { scale: c.scale });
    h = layer.addAttention(h, layer.norm("post_attention_layernorm", attended));
    const mlp = layer.mlp(layer.norm("pre_feedforward_layernorm", h));
    h = layer.addMlp(h, layer.norm("post_feedforward_layernorm", mlp));
  }
  unembed(h, c.logitCap);
}

function readGemma3(fields: ConfigFields): GemmaConfig {
  const config = withDefaults(fields, DEFAULTS);
  const c = readDecoder(config, "hidden_activation");
  refuseOtherActivation(config, c);
  const scores = readGemmaScores(config);
  if (scores.scoreCap !== null)
    throw fieldError(config, ["attn_logit_softcapping"], "Gemma 3 does not limit the scores of attention");
  const { sliding_window_pattern: pattern } = parseFields(Gemma3File, config);
  const full = rotary(config, c, { layers: "full_attention", defaults: { theta: 1_000_000 } });
  const sliding = rotary(localRope(config), c, {
    layers: "sliding_attention",
    names: { theta: ["rope_local_base_freq"] },
  });
  const windows = layerWindows(config, c, (layer) => (layer + 1) % pattern !== 0);
  return {
    ...c,
    ...scores,
    layerGeometry: windows.map(({ slides, window }) => ({ window, positions: slides ? sliding : full })),
  };
}

/** The fields that the layers with a window have their positions from: the older spelling scales the others alone. */
function localRope(config: ConfigFields): ConfigFields {
  const { rope_parameters: parts } = config.values;
  const own = isJsonObject(parts) && Object.values(parts).some(isJsonObject) ? parts : null;
  return { ...config, values: { ...config.values, rope_scaling: null, rope_parameters: own } };
}

/** The fields of the text model; tokens may stand beside it. */
function textConfig(config: ConfigFields): ConfigFields {
  const { text_config: values, ...outer } = config.values;
  if (!isJsonObject(values)) throw fieldError(config, ["text_config"], "it must be an object");
  const text = { file: config.file, at: "text_config", values };
  parseFields(TextModel, text);
  refuseForeignFields(text, "gemma3_text");
  const { bos_token_id, eos_token_id, tie_word_embeddings: tied } = outer;
  if (
    typeof tied === "boolean" &&
    typeof values.tie_word_embeddings === "boolean" &&
    tied !== values.tie_word_embeddings
  )
    throw fieldError(text, ["tie_word_embeddings"], `it is ${tied} outside of text_config`);
  const beside = Object.entries({ bos_token_id, eos_token_id, tie_word_embeddings: tied });
  return withDefaults(text, Object.fromEntries(beside.filter(([, value]) => value !== undefined)));
}

const TextModel = z.object({
  model_type: z.literal("gemma3_text", "the text model of a gemma3 is a gemma3_text").optional(),
});
