import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, whole } from "../config.js";
import type { Positions } from "../model-shape.js";
import type { Architecture } from "./architecture.js";
import { DECODER_NAMES } from "./decoder.js";
import { type DecoderConfig, decoderShape, readDecoder, rotary, withDefaults } from "./decoder-config.js";
import { layerWindows } from "./layer-geometry.js";
import { llama } from "./llama.js";

/** What transformers' class has where a config says nothing. */
const DEFAULTS = {
  num_key_value_heads: 4,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 32_768,
  tie_word_embeddings: true,
  use_sliding_window: false,
  no_rope_layer_interval: 4,
};

const SmolFile = z.object({
  no_rope_layers: z
    .array(z.union([z.literal(0), z.literal(1)], "entries are 1 (rotary) or 0 (none)"), "it must be a list of 0 and 1")
    .nullish(),
  no_rope_layer_interval: whole(1, 2 ** 40),
});

const NONE: Positions = { kind: "none" };

/** SmolLM3: Llama, with rotary positions in three layers out of four and none in the fourth. Yang et al. 2025, arXiv 2501.18795. */
export const smollm3: Architecture<DecoderConfig> = {
  modelType: "smollm3",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, DEFAULTS);
    const c = readDecoder(config);
    const rotates = rotatingLayers(config, c.layers);
    const positions = rotary(config, c, { defaults: { theta: 2_000_000 } });
    const windows = layerWindows(config, c, (layer) => !rotates[layer]);
    return {
      ...c,
      layerGeometry: windows.map(({ window }, layer) => ({ window, positions: rotates[layer] ? positions : NONE })),
    };
  },
  shape: (c) => decoderShape(c),
  forward: llama.forward,
};

/** Whether each layer rotates: despite its name, `no_rope_layers` has a 1 for those that do. */
function rotatingLayers(config: ConfigFields, layers: number): boolean[] {
  const { no_rope_layers: listed, no_rope_layer_interval: interval } = parseFields(SmolFile, config);
  if (listed && listed.length < layers)
    throw fieldError(config, ["no_rope_layers"], `it must have ${layers} entries, one per layer`);
  return Array.from({ length: layers }, (_, layer) => (listed ? listed[layer] === 1 : (layer + 1) % interval !== 0));
}
