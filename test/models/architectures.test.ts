import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { describeModel } from "../../models/architectures/index.js";
import type { ConfigFields } from "../../models/config.js";
import { ModelFormatError } from "../../models/errors.js";
import { buildDecode } from "../../models/graphs.js";
import { readJsonObject } from "../../models/model-file.js";
import { WeightPlan } from "../../models/weights/weight-plan.js";
import { goldenArchitectures, goldenFolder } from "../golden-tensors.js";
import { thrownBy } from "./weights/write-safetensors.js";

const OLDER = "config-v4.json";
const FULL = "full_attention";
const SLIDING = "sliding_attention";

/** The config of a golden model, in either spelling, with some fields changed, or taken out (undefined). */
function config(name: string, values: object = {}, spelling = "config.json"): ConfigFields {
  const file = join(goldenFolder(`architectures/${name}`), spelling);
  const entries = Object.entries({ ...readJsonObject(file), ...values }).filter(([, value]) => value !== undefined);
  return { file, values: Object.fromEntries(entries) };
}

/** What is compiled of a model: its shape, its graph, and the weights it takes. */
function compiled(fields: ConfigFields) {
  const model = describeModel(fields);
  const plan = new WeightPlan();
  const options = {
    sinks: 2,
    precision: "f32",
    dtypes: new Map<string, string>(),
    weightsFile: "weights.bin",
  } as const;
  const { bytes } = buildDecode(model, plan, { ...options, taps: new Set(), edits: new Set() });
  return { shape: model.shape, graph: Buffer.from(bytes).toString("base64"), weights: [...plan.sources] };
}

/** Window of every layer, "lambda" or a number. */
function windows(fields: ConfigFields) {
  const { geometries, layerGeometries } = describeModel(fields).shape;
  return layerGeometries.map((geometry) => geometries[geometry]?.window);
}

/** What every layer does with positions: its rotary base, or none. */
function positions(fields: ConfigFields) {
  const { geometries, layerGeometries } = describeModel(fields).shape;
  return layerGeometries.map((i) => {
    const at = geometries[i]?.positions;
    return at?.kind === "rotary" ? at.rope.theta : at?.kind;
  });
}

describe("a config in the spelling of transformers 4 or 5", () => {
  it.each(goldenArchitectures())("gives the same shape, graph and weights: $name", ({ name }) => {
    expect(compiled(config(name, {}, OLDER))).toEqual(compiled(config(name)));
  });
});

describe("windows of layers", () => {
  it.each<[string, string, object, unknown[]]>([
    ["mistral", "in every layer", {}, [16, 16]],
    ["mistral", "none if it is null", { sliding_window: null }, ["lambda", "lambda"]],
    ["mistral", "none if no text of the trained length fills it", { sliding_window: 128 }, ["lambda", "lambda"]],
    ["mistral", "by layer_types where those are there", { layer_types: [FULL, SLIDING] }, ["lambda", 16]],
    ["qwen2", "none unless asked for", { sliding_window: 16, layer_types: null }, ["lambda", "lambda", "lambda"]],
    [
      "qwen2",
      "from max_window_layers on",
      { use_sliding_window: true, sliding_window: 16, max_window_layers: 2, layer_types: null },
      ["lambda", "lambda", 16],
    ],
    [
      "qwen3",
      "from max_window_layers on",
      { use_sliding_window: true, sliding_window: 16, max_window_layers: 1, layer_types: null },
      ["lambda", 16],
    ],
    [
      "smollm3",
      "in the layers that do not rotate",
      { use_sliding_window: true, sliding_window: 16, layer_types: null },
      ["lambda", 16, "lambda"],
    ],
    ["gemma2", "in every second layer", { layer_types: null }, [16, "lambda", 16, "lambda"]],
    ["gemma3_text", "by the pattern", { layer_types: null, sliding_window_pattern: 2 }, [16, "lambda", 16]],
    ["gemma3_text", "by a pattern of six", { layer_types: null }, [16, 16, 16]],
    ["phi3_longrope", "in every layer", {}, [16, 16]],
  ])("%s: %s", (name, _, values, want) => {
    expect(windows(config(name, values))).toEqual(want);
  });

  it("of Mistral are 4096 where the config does not say", () => {
    const long = { sliding_window: undefined, max_position_embeddings: 32_768 };
    expect(windows(config("mistral", long))).toEqual([4096, 4096]);
  });
});

describe("positions of layers", () => {
  it.each<[string, string, object, string, unknown[]]>([
    ["smollm3", "none by its list", {}, "config.json", [2e6, "none", 2e6]],
    [
      "smollm3",
      "none by its interval",
      { no_rope_layers: null, no_rope_layer_interval: 3 },
      "config.json",
      [2e6, 2e6, "none"],
    ],
    ["smollm3", "of its family's base", { rope_theta: undefined }, OLDER, [2e6, "none", 2e6]],
    ["gemma3_text", "of two kinds", {}, "config.json", [1e4, 1e4, 1e6]],
    ["gemma3_text", "of two kinds by the older names", { rope_local_base_freq: 500 }, OLDER, [500, 500, 1e6]],
    ["gemma3_text", "of two kinds where no window is left", { sliding_window: 4096 }, "config.json", [1e4, 1e4, 1e6]],
  ])("%s: %s", (name, _, values, spelling, want) => {
    expect(positions(config(name, values, spelling))).toEqual(want);
  });

  it("of Phi-3 rotate a part of each head, and take the older name of longrope", () => {
    const { geometries, trainedLength } = describeModel(config("phi3_longrope")).shape;
    expect(geometries).toMatchObject([{ positions: { rotaryDim: 8, rope: { type: "longrope", originalLength: 64 } } }]);
    expect(trainedLength).toBe(256);
    const { rope_scaling } = config("phi3_longrope", {}, OLDER).values;
    const older = config("phi3_longrope", { rope_scaling: { ...Object(rope_scaling), type: "su" } }, OLDER);
    expect(compiled(older)).toEqual(compiled(config("phi3_longrope")));
  });
});

describe("a field of another family", () => {
  it.each<[string, object]>([
    ["llama", { attention_multiplier: 0.0078125 }],
    ["llama", { embedding_multiplier: 12 }],
    ["llama", { residual_multiplier: 0.22 }],
    ["llama", { logits_scaling: 16 }],
    ["qwen2", { scale_emb: 12 }],
    ["mistral", { final_logit_softcapping: 30 }],
    ["qwen2", { qk_layernorm: true }],
    ["olmo2", { clip_qkv: 8 }],
    ["mistral", { use_parallel_residual: true }],
    ["llama", { alibi: true }],
    ["llama", { position_embedding_type: "alibi" }],
    ["llama", { no_rope_layers: [1, 1, 0] }],
    ["llama", { layer_types: [FULL, SLIDING, FULL] }],
    ["olmo2", { sliding_window: 16 }],
    ["gpt2", { rope_theta: 500 }],
    ["gptj", { rope_scaling: { type: "linear", factor: 2 } }],
    ["bloom", { logit_scale: 0.5 }],
    ["mistral", { is_causal: false }],
    ["llama", { rms_norm_eps: undefined, norm_eps: 1e-5 }],
    ["gpt_neox", { layer_norm_eps: null, rms_norm_eps: 1e-6 }],
  ])("that changes what is computed is refused by name: %s with %j", (name, values) => {
    const [field] = Object.entries(values).at(-1) ?? [];
    const error = thrownBy(() => describeModel(config(name, values)));
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(String(error)).toContain(`config.json: ${field} is `);
  });

  it("of the text in a wrapper is refused by its place there", () => {
    const values = { model_type: "gemma3", text_config: { logits_scaling: 8 } };
    expect(() => describeModel(config("mistral", values))).toThrow(/text_config\.logits_scaling is 8/);
  });

  it("may hold what changes nothing", () => {
    const values = {
      ...{ embedding_multiplier: 1, logit_scale: null, qk_norm: false, alibi: false, is_causal: true },
      ...{ no_rope_layers: [1, 1], layer_types: [FULL, FULL], sliding_window: 1e6, position_embedding_type: "rope" },
      ...{ rope_interleaved: false, attention_dropout: 0.1, pretraining_tp: 2 },
    };
    expect(compiled(config("llama", values))).toEqual(compiled(config("llama")));
    const unused = { sliding_window: 16, use_sliding_window: false };
    expect(compiled(config("llama", unused))).toEqual(compiled(config("llama")));
  });
});

describe("a variation that would give other numbers", () => {
  it.each<[string, object, RegExp]>([
    ["mistral", { quantization_config: { quant_method: "awq" } }, /quantization_config is .*awq.*weights quantised by/],
    ["mistral", { compression_config: { format: "pack" } }, /compression_config is .*weights quantised by/],
    ["mistral", { num_local_experts: 8 }, /num_local_experts is 8, but a mixture of experts is not known/],
    ["qwen3", { num_experts: 128 }, /num_experts is 128/],
    ["mistral", { hidden_act: "relu6" }, /hidden_act is "relu6", but the activations known here are silu/],
    ["gemma2", { hidden_activation: "quick_gelu" }, /hidden_activation is "quick_gelu"/],
    ["mistral", { sliding_window: 0 }, /sliding_window is 0, but it must be a whole number from 1/],
    ["mistral", { sliding_window: -1 }, /sliding_window is -1/],
    ["qwen2", { layer_types: [FULL, FULL, "chunked_attention"] }, /layer_types\.2 is "chunked_attention"/],
    ["qwen2", { layer_types: [FULL] }, /layer_types is .* it must have 3 entries/],
    [
      "qwen2",
      { layer_types: [FULL, FULL, SLIDING], sliding_window: 16 },
      /use_sliding_window is false, but layer_types has layers with a sliding window/,
    ],
    ["gemma2", { sliding_window: null }, /sliding_window is null, but layer_types has layers/],
    [
      "gemma2",
      { use_bidirectional_attention: true },
      /use_bidirectional_attention is true, but attention here only looks/,
    ],
    ["gemma3_text", { use_bidirectional_attention: true }, /use_bidirectional_attention is true/],
    ["gemma3_text", { attn_logit_softcapping: 50 }, /attn_logit_softcapping is 50, but Gemma 3/],
    ["gemma2", { hidden_act: "relu" }, /hidden_act is "relu", but a Gemma has hidden_activation, which is another/],
    ["gemma2", { query_pre_attn_scalar: 0 }, /query_pre_attn_scalar is 0/],
    ["gemma2", { final_logit_softcapping: -1 }, /final_logit_softcapping is -1/],
    ["gemma3_text", { sliding_window_pattern: 0 }, /sliding_window_pattern is 0/],
    ["gemma3_text", { rope_parameters: { full_attention: {} } }, /rope_parameters.sliding_attention is absent/],
    [
      "gemma3_text",
      { rope_parameters: { full_attention: { rope_type: "linear" }, sliding_attention: {} } },
      /rope_parameters\.full_attention\.factor is absent/,
    ],
    [
      "qwen3",
      { rope_parameters: { full_attention: { rope_theta: 1e6 } } },
      /rope_parameters\.full_attention is .*same positions in all layers/,
    ],
    [
      "gemma3_text",
      { rope_local_base_freq: 500 },
      /rope_local_base_freq is 500, but rope_parameters.sliding_attention.rope_theta is 10000/,
    ],
    ["gemma3_text", { rope_theta: 500 }, /rope_theta is 500, but rope_parameters.full_attention.rope_theta is 1000000/],
    ["smollm3", { no_rope_layers: [1, 0] }, /no_rope_layers is \[1,0\], but it must have 3 entries/],
    ["smollm3", { no_rope_layers: [1, 0, 2] }, /no_rope_layers\.2 is 2/],
    ["smollm3", { no_rope_layers: null, no_rope_layer_interval: 0 }, /no_rope_layer_interval is 0/],
    ["qwen2", { rope_parameters: { rope_type: "dynamic", factor: 2 } }, /rope_parameters\.rope_type is "dynamic"/],
    ["olmo2", { partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5, but models of this type rotate every/],
    ["phi3", { rope_parameters: { rope_type: "yarn", factor: 4 } }, /Phi-3 is known here with longrope or without/],
    ["phi3", { rope_parameters: { partial_rotary_factor: 0.9 } }, /partial_rotary_factor .* leaves 7 of 8 dimensions/],
    [
      "phi3_longrope",
      { rope_parameters: { rope_type: "longrope", short_factor: [1], long_factor: [1] } },
      /short_factor is \[1\], but it must have 8 entries/,
    ],
    ["mistral", { model_type: "gemma3" }, /text_config is absent, but it must be an object/],
    [
      "mistral",
      { model_type: "gemma3", text_config: { model_type: "gemma3n_text" } },
      /text_config\.model_type is "gemma3n_text"/,
    ],
    [
      "mistral",
      { model_type: "gemma3", text_config: { rope_scaling: { rope_type: "spiral" } } },
      /text_config\.rope_scaling\.rope_type is "spiral"/,
    ],
  ])("is refused, naming the field: %s with %j", (name, values, reason) => {
    const error = thrownBy(() => describeModel(config(name, values)));
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(String(error)).toMatch(reason);
  });
});
