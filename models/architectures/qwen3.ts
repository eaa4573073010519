import type { Architecture } from "./architecture.js";
import { DECODER_NAMES, decoder } from "./decoder.js";
import { type DecoderConfig, decoderShape, readDecoder, withDefaults } from "./decoder-config.js";
import { QWEN_DEFAULTS, qwenLayers } from "./qwen2.js";

/** Qwen3: Llama, with a norm over each head of the queries and keys before they are rotated. Yang et al. 2025, arXiv 2505.09388. */
export const qwen3: Architecture<DecoderConfig> = {
  modelType: "qwen3",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, { ...QWEN_DEFAULTS, head_dim: 128 });
    const c = readDecoder(config);
    return { ...c, layerGeometry: qwenLayers(config, c) };
  },
  shape: (c) => decoderShape(c),
  forward(pass, c) {
    const { embed, layers, unembed } = decoder(pass, c);
    let h = embed();
    for (const layer of layers) {
      h = layer.enter(h);
      const heads = layer.normHeads(layer.byHead(layer.project(layer.norm("input_layernorm", h))));
      h = layer.addAttention(h, layer.attend(heads));
      h = layer.addMlp(h, layer.mlp(layer.norm("post_attention_layernorm", h)));
    }
    unembed(h);
  },
};
