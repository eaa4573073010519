import { fieldError } from "../config.js";
import type { Architecture } from "./architecture.js";
import { DECODER_NAMES, decoder } from "./decoder.js";
import { type DecoderConfig, decoderShape, readDecoder, rotary, withDefaults } from "./decoder-config.js";
import { layerWindows } from "./layer-geometry.js";

/** What transformers' class has where a config says nothing. */
const DEFAULTS = { rms_norm_eps: 1e-5, max_position_embeddings: 4096 };

/**
 * Phi-3 and Phi-4: Llama with its maps fused, queries, keys and values into one, gate and up into another; Phi-4 mini
 * rotates a part of each head. Their trained length is that of longrope's long factors; the window that a server runs
 * with decides whether those or the short ones are used. Abdin et al. 2024, arXiv 2404.14219.
 */
export const phi3: Architecture<DecoderConfig> = {
  modelType: "phi3",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, DEFAULTS);
    const c = readDecoder(config);
    const positions = rotary(config, c, { partial: true, defaults: { originalLength: 4096 } });
    if (positions.rope.type !== "default" && positions.rope.type !== "longrope")
      throw fieldError(config, ["rope_scaling"], "Phi-3 is known here with longrope or without scaling");
    return { ...c, layerGeometry: layerWindows(config, c, () => true).map(({ window }) => ({ window, positions })) };
  },
  shape: (c) => decoderShape(c),
  forward(pass, c) {
    const { embed, layers, unembed } = decoder(pass, c);
    const fused = { "self_attn.qkv_proj": (c.heads + 2 * c.kvHeads) * c.headDim };
    const gateUp = { "mlp.gate_up_proj": 2 * c.intermediateSize };
    let h = embed();
    for (const layer of layers) {
      h = layer.enter(h);
      const projected = layer.project(layer.norm("input_layernorm", h), fused);
      h = layer.addAttention(h, layer.attend(layer.byHead(projected)));
      h = layer.addMlp(h, layer.mlp(layer.norm("post_attention_layernorm", h), gateUp));
    }
    unembed(h);
  },
};
