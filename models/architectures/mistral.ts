import type { Architecture } from "./architecture.js";
import { DECODER_NAMES } from "./decoder.js";
import { type DecoderConfig, decoderShape, readDecoder, rotary, withDefaults } from "./decoder-config.js";
import { layerWindows } from "./layer-geometry.js";
import { llama } from "./llama.js";

/** What transformers' class has where a config says nothing. */
const DEFAULTS = {
  num_key_value_heads: 8,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 131_072,
  sliding_window: 4096,
};

/** Mistral 7B and Nemo: Llama, in 7B's first release with a sliding window in every layer. Jiang et al. 2023, arXiv 2310.06825. */
export const mistral: Architecture<DecoderConfig> = {
  modelType: "mistral",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, DEFAULTS);
    const c = readDecoder(config);
    const positions = rotary(config, c);
    return { ...c, layerGeometry: layerWindows(config, c, () => true).map(({ window }) => ({ window, positions })) };
  },
  shape: (c) => decoderShape(c),
  forward: llama.forward,
};
