import { createHash } from "node:crypto";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { alibiSlopes } from "../../models/alibi.js";
import { describeModel } from "../../models/architectures/index.js";
import { type ConfigFields, readConfig } from "../../models/config.js";
import { ModelFormatError } from "../../models/errors.js";
import { buildDecode } from "../../models/graphs.js";
import { readJsonObject } from "../../models/model-file.js";
import { WeightPlan } from "../../models/weights/weight-plan.js";
import { goldenArchitectures, goldenFolder } from "../golden-tensors.js";
import { thrownBy } from "./weights/write-safetensors.js";

const golden = (name: string): ConfigFields => readConfig(goldenFolder(`architectures/${name}`));
const before = (name: string): ConfigFields => {
  const file = join(goldenFolder(`architectures/${name}`), "config-v4.json");
  return { file, values: readJsonObject(file) };
};
const variant = (name: string, values: object): ConfigFields => ({
  file: "config.json",
  values: { ...golden(name).values, ...values },
});

/** All that a config decides: the decode graph, to the byte, and the weights it needs. */
function madeOf(config: ConfigFields) {
  const plan = new WeightPlan();
  const none = new Set<never>();
  const options = {
    sinks: 2,
    precision: "f32",
    dtypes: new Map<string, string>(),
    taps: none,
    edits: none,
    weightsFile: "weights.bin",
  } as const;
  const model = describeModel(config);
  const { bytes, hooks } = buildDecode(model, plan, options);
  return {
    graph: createHash("sha256").update(bytes).digest("hex"),
    hooks,
    sources: [...plan.sources],
    shape: model.shape,
  };
}

it.each(goldenArchitectures())("$name is the same model in the spelling of transformers 4 and 5", ({ name }) => {
  expect(madeOf(before(name))).toEqual(madeOf(golden(name)));
});

describe("shapes", () => {
  const shapeOf = (name: string) => describeModel(golden(name)).shape;
  const rope = { type: "default", theta: 10000 };

  it("GPT-2's positions are learned, and end", () => {
    expect(shapeOf("gpt2")).toEqual({
      vocabSize: 128,
      hiddenSize: 32,
      layers: 2,
      heads: 2,
      kvHeads: 2,
      headDim: 16,
      trainedLength: 128,
      bosTokenId: 1,
      eosTokenIds: [2],
      geometries: [{ window: "lambda", positions: { kind: "none" } }],
      layerGeometries: [0, 0],
      learnedPositions: 128,
      postNorm: false,
      ignoresMean: "always",
    });
  });

  it("rotary positions of GPT-NeoX and GPT-J are those of a share of the dimensions", () => {
    expect(shapeOf("gpt_neox")).toMatchObject({
      geometries: [{ window: "lambda", positions: { kind: "rotary", rope, rotaryDim: 4 } }],
      layerGeometries: [0, 0, 0],
      learnedPositions: null,
    });
    expect(shapeOf("gptj").geometries).toEqual([
      { window: "lambda", positions: { kind: "rotary", rope, rotaryDim: 8, interleaved: true } },
    ]);
  });

  it("BLOOM, MPT and Falcon RW have ALiBi, Falcon's before the scores are scaled", () => {
    const slopes = (name: string) =>
      shapeOf(name).geometries.map(({ positions }) => (positions.kind === "alibi" ? positions.slopes : []));
    expect(slopes("bloom")).toEqual([[1 / 4, 1 / 16, 1 / 64, 1 / 256]]);
    expect(slopes("mpt_heads6")).toEqual([alibiSlopes(6)]);
    expect(slopes("falcon_alibi")).toEqual([alibiSlopes(6).map((slope) => slope / Math.sqrt(8))]);
    const storyWriter = variant("mpt", { attn_config: { alibi: true, alibi_bias_max: 16 } });
    expect(describeModel(storyWriter).shape.geometries[0]?.positions).toEqual({
      kind: "alibi",
      slopes: alibiSlopes(4, 16),
    });
  });

  it("Falcons have one key-value head, some, or all", () => {
    expect(shapeOf("falcon_mqa").kvHeads).toBe(1);
    expect(shapeOf("falcon").kvHeads).toBe(2);
    expect(shapeOf("falcon_alibi").kvHeads).toBe(6);
  });
});

it.each([
  ["gpt_neox", { rope_parameters: { partial_rotary_factor: 0.5 } }, { rope_parameters: null, rotary_pct: 0.5 }],
  [
    "gpt2",
    {
      n_embd: null,
      hidden_size: 32,
      n_head: null,
      num_attention_heads: 2,
      n_positions: null,
      max_position_embeddings: 128,
    },
    {},
  ],
  ["mpt", { d_model: undefined, hidden_size: 32 }, {}],
  ["gpt_neox", { rotary_pct: 0.25, rotary_emb_base: 10_000 }, {}], // both spellings, and they agree
  ["gpt_neox", { layer_norm_eps: undefined, hidden_act: undefined, attention_bias: null }, {}],
  ["gpt_neox", { rope_parameters: null }, {}],
  ["gpt2", { n_inner: 128, scale_attn_weights: null, activation_function: undefined }, {}],
  ["gpt2", { reorder_and_upcast_attn: true, n_ctx: 64 }, {}],
  ["gptj", { n_inner: 128, activation_function: undefined, rotary: true, layer_norm_epsilon: undefined }, {}],
  ["mpt", { attn_config: null, expansion_ratio: undefined, norm_type: "layernorm", learned_pos_emb: true }, {}],
  ["mpt", { attn_config: { clip_qkv: 0 }, no_bias: null }, {}],
  ["bloom", { tie_word_embeddings: undefined, n_embed: 32, num_attention_heads: 4, num_hidden_layers: 2 }, {}],
  ["falcon", { num_ln_in_parallel_attn: null, ffn_hidden_size: null, activation: undefined }, {}],
  ["falcon", { num_kv_heads: undefined, n_head_kv: 2 }, {}],
  ["falcon_mqa", { multi_query: null, parallel_attn: null, bias: null, alibi: null, num_kv_heads: 4 }, {}],
])("%s with %j is the model with %j: defaults are transformers' own", (name, values, same) => {
  expect(madeOf(variant(name, values))).toEqual(madeOf(variant(name, same)));
});

it.each([
  ["gpt_neox", { hidden_size: 50 }, /hidden_size is 50, but it must be a multiple of.* \(3\)/],
  ["gpt2", { hidden_size: 64 }, /hidden_size is 64, but it must be what n_embd is: 32/],
  ["gptj", { max_position_embeddings: 63 }, /max_position_embeddings is 63, but it must be what n_positions is/],
  ["mpt", { attn_config: { rope: true } }, /attn_config.rope is true, but only models with ALiBi are known here/],
  ["gpt_neox", { rotary_pct: 0.5 }, /rotary_pct is 0.5, but rope_parameters.partial_rotary_factor is 0.25/],
  ["gpt_neox", { rotary_emb_base: 7 }, /rotary_emb_base is 7, but rope_parameters.rope_theta is 10000/],
  ["gpt_neox", { rotary_pct: 0 }, /rotary_pct is 0/],
  ["gpt_neox", { rotary_pct: 1.5 }, /rotary_pct is 1.5/],
  ["gpt_neox", { rope_parameters: null, rotary_pct: 0.2 }, /rotary_pct is 0.2, but 3 of 16 dimensions would rotate/],
  ["gpt_neox", { rotary_emb_base: -1 }, /rotary_emb_base is -1/],
  ["gpt_neox", { rope_parameters: { partial_rotary_factor: 7 } }, /rope_parameters.partial_rotary_factor is 7/],
  [
    "gpt_neox",
    { rope_parameters: null, rope_scaling: { type: "dynamic", factor: 2 } },
    /rope_scaling.type is "dynamic"/,
  ],
  ["gpt_neox", { hidden_act: "warp9" }, /hidden_act is "warp9", but the activations known here are/],
  ["gpt_neox", { use_parallel_residual: "yes" }, /use_parallel_residual is "yes"/],
  ["gpt_neox", { bos_token_id: 128 }, /bos_token_id is 128, but it must be below vocab_size/],
  ["gpt2", { n_head: 0 }, /n_head is 0/],
  ["gpt2", { n_layer: 1e9 }, /n_layer is 1000000000/],
  ["gpt2", { n_positions: 0 }, /n_positions is 0/],
  ["gpt2", { n_embd: 33 }, /n_embd is 33/],
  ["gpt2", { add_cross_attention: true }, /add_cross_attention is true/],
  ["gpt2", { activation_function: "gelu_11" }, /activation_function is "gelu_11"/],
  ["gptj", { rotary_dim: 18 }, /rotary_dim is 18, but it must be an even number up to.* 16/],
  ["gptj", { rotary_dim: 7 }, /rotary_dim is 7/],
  ["gptj", { rotary_dim: null }, /rotary_dim is null/],
  ["gptj", { rotary: false }, /rotary is false/],
  ["gptj", { scale_attn_weights: false }, /scale_attn_weights is false/],
  ["gptj", { tie_word_embeddings: true }, /tie_word_embeddings is true/],
  ["mpt", { attn_config: { alibi: false } }, /attn_config.alibi is false/],
  ["mpt", { attn_config: { qk_ln: true } }, /attn_config.qk_ln is true/],
  ["mpt", { attn_config: { prefix_lm: true } }, /attn_config.prefix_lm is true/],
  ["mpt", { attn_config: { attn_type: "multiquery_attention" } }, /attn_config.attn_type is "multiquery_attention"/],
  ["mpt", { attn_config: { clip_qkv: -1 } }, /attn_config.clip_qkv is -1/],
  ["mpt", { attn_config: { softmax_scale: 0 } }, /attn_config.softmax_scale is 0/],
  ["mpt", { attn_config: { alibi_bias_max: "8" } }, /attn_config.alibi_bias_max is "8"/],
  ["mpt", { attn_config: "torch" }, /attn_config is "torch", but it must be an object/],
  ["mpt", { no_bias: false }, /no_bias is false/],
  ["mpt", { norm_type: "rmsnorm" }, /norm_type is "rmsnorm"/],
  ["mpt", { logit_scale: "inv_sqrt_d_model" }, /logit_scale is "inv_sqrt_d_model"/],
  ["mpt", { expansion_ratio: 0.01 }, /expansion_ratio is 0.01/],
  ["mpt", { expansion_ratio: 1e300 }, /expansion_ratio is 1e\+300/],
  ["bloom", { hidden_size: null }, /hidden_size is null, but it must be a whole number/],
  ["bloom", { hidden_size: undefined }, /hidden_size is absent/],
  ["bloom", { hidden_size: undefined, n_embed: 30 }, /n_embed is 30, but it must be a multiple/],
  ["bloom", { n_embed: 64 }, /n_embed is 64, but it must be what hidden_size is: 32/],
  ["bloom", { apply_residual_connection_post_layernorm: true }, /apply_residual_connection_post_layernorm is true/],
  ["falcon", { num_kv_heads: 4 }, /num_kv_heads is 4, but it must divide .* 6/],
  ["falcon", { num_ln_in_parallel_attn: 3 }, /num_ln_in_parallel_attn is 3/],
  ["falcon", { parallel_attn: false }, /parallel_attn is false/],
  ["falcon", { num_attention_heads: 16 }, /hidden_size is 48, but it makes heads of 3 dimensions/],
  ["falcon", { rope_parameters: { partial_rotary_factor: 0.5 } }, /partial_rotary_factor .* rotates every dimension/],
  ["falcon_mqa", { num_ln_in_parallel_attn: 2 }, /num_ln_in_parallel_attn is 2/],
  ["falcon_mqa", { apply_residual_connection_post_layernorm: true }, /apply_residual_connection_post_layernorm/],
])("%s is refused with field and value: %j", (name, values, reason) => {
  const error = thrownBy(() => describeModel(variant(name, values)));
  expect(error).toBeInstanceOf(ModelFormatError);
  expect(error).toMatchObject({ file: "config.json", reason: expect.stringMatching(reason) });
});
