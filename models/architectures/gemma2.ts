import { z } from "zod";
import { ActivationName } from "../activation.js";
import { type ConfigFields, fieldError, parseFields, positive } from "../config.js";
import type { Architecture } from "./architecture.js";
import { DECODER_NAMES, decoder } from "./decoder.js";
import {
  type DecoderConfig,
  type DecoderSizes,
  decoderShape,
  readDecoder,
  rotary,
  withDefaults,
} from "./decoder-config.js";
import { layerWindows } from "./layer-geometry.js";

/** What transformers' classes of Gemma 2 and 3 have where a config says nothing. */
export const GEMMA_DEFAULTS = {
  num_key_value_heads: 4,
  head_dim: 256,
  rms_norm_eps: 1e-6,
  hidden_activation: "gelu_pytorch_tanh",
  tie_word_embeddings: true,
  query_pre_attn_scalar: 256,
  sliding_window: 4096,
};

const DEFAULTS = {
  ...GEMMA_DEFAULTS,
  max_position_embeddings: 8192,
  attn_logit_softcapping: 50,
  final_logit_softcapping: 30,
};

const GemmaFile = z.object({
  query_pre_attn_scalar: positive,
  attn_logit_softcapping: positive.nullish(),
  final_logit_softcapping: positive.nullish(),
});

export interface GemmaConfig extends DecoderConfig {
  /** Of the scores of attention. */
  readonly scale: number;
  /** Limits of scores and logits, null: none. */
  readonly scoreCap: number | null;
  readonly logitCap: number | null;
}

/** @throws ModelFormatError where `hidden_act`, which a Gemma does not read, names another activation than it has. */
export function refuseOtherActivation(config: ConfigFields, { activation }: DecoderSizes): void {
  const { hidden_act } = parseFields(z.object({ hidden_act: ActivationName.nullish() }), config);
  if (hidden_act && hidden_act !== activation)
    throw fieldError(config, ["hidden_act"], "a Gemma has hidden_activation, which is another");
}

export function readGemmaScores(config: ConfigFields): Pick<GemmaConfig, "scale" | "scoreCap" | "logitCap"> {
  const found = parseFields(GemmaFile, config);
  return {
    scale: 1 / Math.sqrt(found.query_pre_attn_scalar),
    scoreCap: found.attn_logit_softcapping ?? null,
    logitCap: found.final_logit_softcapping ?? null,
  };
}

/**
 * Gemma 2: norms before and after attention and MLP, GeGLU, scores and logits limited by tanh, a sliding window in every
 * second layer. Gemma Team 2024, arXiv 2408.00118.
 */
export const gemma2: Architecture<GemmaConfig> = {
  modelType: "gemma2",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, DEFAULTS);
    const c = readDecoder(config, "hidden_activation");
    refuseOtherActivation(config, c);
    const positions = rotary(config, c);
    const windows = layerWindows(config, c, (layer) => layer % 2 === 0);
    return { ...c, ...readGemmaScores(config), layerGeometry: windows.map(({ window }) => ({ window, positions })) };
  },
  shape: (c) => decoderShape(c, true),
  forward(pass, c) {
    const { embed, layers, unembed } = decoder(pass, c, { plusOne: true });
    let h = embed({ scale: Math.sqrt(c.hiddenSize) });
    for (const layer of layers) {
      h = layer.enter(h);
      const heads = layer.byHead(layer.project(layer.norm("input_layernorm", h)));
      const attended = layer.attend(heads, { scale: c.scale, softcap: c.scoreCap });
      h = layer.addAttention(h, layer.norm("post_attention_layernorm", attended));
      const mlp = layer.mlp(layer.norm("pre_feedforward_layernorm", h));
      h = layer.addMlp(h, layer.norm("post_feedforward_layernorm", mlp));
    }
    unembed(h, c.logitCap);
  },
};
