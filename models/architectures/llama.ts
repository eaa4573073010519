import type { Architecture } from "./architecture.js";
import { DECODER_NAMES, decoder } from "./decoder.js";
import { type DecoderConfig, decoderShape, readDecoder, rotary, withDefaults } from "./decoder-config.js";

/** What transformers' class has where a config says nothing. */
const DEFAULTS = { rms_norm_eps: 1e-6, max_position_embeddings: 2048 };

/** Llama 1-3: pre-norm blocks, rotary positions, grouped-query attention, SwiGLU. Touvron et al. 2023, arXiv 2302.13971. */
export const llama: Architecture<DecoderConfig> = {
  modelType: "llama",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, DEFAULTS);
    const c = readDecoder(config);
    const positions = rotary(config, c);
    return { ...c, layerGeometry: Array.from({ length: c.layers }, () => ({ window: "lambda", positions })) };
  },
  shape: (c) => decoderShape(c),
  forward(pass, c) {
    const { embed, layers, unembed } = decoder(pass, c);
    let h = embed();
    for (const layer of layers) {
      h = layer.enter(h);
      h = layer.addAttention(h, layer.attend(layer.byHead(layer.project(layer.norm("input_layernorm", h)))));
      h = layer.addMlp(h, layer.mlp(layer.norm("post_attention_layernorm", h)));
    }
    unembed(h);
  },
};
