import type { Architecture } from "./architecture.js";
import { DECODER_NAMES, decoder } from "./decoder.js";
import { type DecoderConfig, decoderShape, readDecoder, rotary, withDefaults } from "./decoder-config.js";

/** What transformers' class has where a config says nothing. */
const DEFAULTS = { rms_norm_eps: 1e-5, max_position_embeddings: 2048 };

/**
 * OLMo 2: Llama with its norms after attention and MLP, before their outputs are added, and norms over the queries and
 * keys of all heads together. OLMo et al. 2025, arXiv 2501.00656.
 */
export const olmo2: Architecture<DecoderConfig> = {
  modelType: "olmo2",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, DEFAULTS);
    const c = readDecoder(config);
    const positions = rotary(config, c);
    return { ...c, layerGeometry: Array.from({ length: c.layers }, () => ({ window: "lambda", positions })) };
  },
  shape: (c) => decoderShape(c, true),
  forward(pass, c) {
    const { embed, layers, unembed } = decoder(pass, c);
    const [queries, keys] = [c.heads * c.headDim, c.kvHeads * c.headDim];
    const byHead = (x: string, heads: number) => pass.attention.splitHeads(x, [heads], c.headDim)[0] ?? "";
    let h = embed();
    for (const layer of layers) {
      h = layer.enter(h);
      const [query = "", key = "", value = ""] = pass.split(layer.project(h), [queries, keys, keys]);
      const attended = layer.attend({
        query: byHead(layer.norm("self_attn.q_norm", query, queries), c.heads),
        key: byHead(layer.norm("self_attn.k_norm", key, keys), c.kvHeads),
        value: byHead(value, c.kvHeads),
      });
      h = layer.addAttention(h, layer.norm("post_attention_layernorm", attended));
      h = layer.addMlp(h, layer.norm("post_feedforward_layernorm", layer.mlp(h)));
    }
    unembed(h);
  },
};
