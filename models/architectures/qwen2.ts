import { z } from "zod";
import { type ConfigFields, parseFields, whole } from "../config.js";
import type { Geometry } from "../model-shape.js";
import type { Architecture } from "./architecture.js";
import { DECODER_NAMES } from "./decoder.js";
import {
  type DecoderConfig,
  type DecoderSizes,
  decoderShape,
  readDecoder,
  rotary,
  withDefaults,
} from "./decoder-config.js";
import { layerWindows } from "./layer-geometry.js";
import { llama } from "./llama.js";

/** What transformers' classes of Qwen2 and Qwen3 have where a config says nothing. */
export const QWEN_DEFAULTS = {
  num_key_value_heads: 32,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 32_768,
  use_sliding_window: false,
  sliding_window: 4096,
  max_window_layers: 28,
};

const QwenFile = z.object({ max_window_layers: whole(0, 2 ** 40) });

/** Qwen2 and Qwen2.5: Llama, with a bias on queries, keys and values. Yang et al. 2024, arXiv 2407.10671. */
export const qwen2: Architecture<DecoderConfig> = {
  modelType: "qwen2",
  names: DECODER_NAMES,
  readConfig(fields) {
    const config = withDefaults(fields, QWEN_DEFAULTS);
    const c = readDecoder(config);
    const biases = { queryKeyValue: true, attentionOutput: false, mlp: false };
    return { ...c, biases, layerGeometry: qwenLayers(config, c) };
  },
  shape: (c) => decoderShape(c),
  forward: llama.forward,
};

/** Where a window is in use, the first `max_window_layers` layers do without it all the same. */
export function qwenLayers(config: ConfigFields, c: DecoderSizes): Geometry[] {
  const { max_window_layers } = parseFields(QwenFile, config);
  const positions = rotary(config, c);
  return layerWindows(config, c, (layer) => layer >= max_window_layers).map(({ window }) => ({ window, positions }));
}
