import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openModelSource } from "../../../models/model-source.js";
import { temporaryFolder } from "../weights/write-safetensors.js";
import { goldenGguf } from "./golden-gguf.js";
import { writeModel } from "./llama-file.js";
import { f32 } from "./write-gguf.js";

type Options = Parameters<typeof writeModel>[1];
const source = (options: Options = {}) => openModelSource(writeModel(join(temporaryFolder(), "a.gguf"), options));
const config = (options: Options = {}) => source(options).config().values;
const ones = (size: number) => f32([size], new Float32Array(size).fill(1));

describe("config of a GGUF file", () => {
  it("has transformers' fields", () => {
    expect(openModelSource(goldenGguf("llama-tiny.gguf")).config().values).toEqual({
      model_type: "llama",
      vocab_size: 320,
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 16,
      rms_norm_eps: Math.fround(1e-5),
      max_position_embeddings: 64,
      rope_theta: 10_000,
      rope_scaling: null,
      tie_word_embeddings: false,
      attention_bias: false,
      mlp_bias: false,
      bos_token_id: 1,
      eos_token_id: 2,
    });
  });

  it("says which tokens end a text, and begins prompts as the file says", () => {
    const id = (uint32: number) => ({ uint32 });
    const tokens = {
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "llama-bpe",
      "tokenizer.ggml.tokens": Array.from({ length: 48 }, (_, i) => `t${i}`),
      "tokenizer.ggml.bos_token_id": id(3),
      "tokenizer.ggml.eos_token_id": id(5),
      "tokenizer.ggml.eot_token_id": id(6),
      "tokenizer.ggml.eom_token_id": id(5),
      "tokenizer.ggml.padding_token_id": id(7),
      "tokenizer.chat_template": "{{ bos_token }}",
    };
    const found = source({ metadata: tokens });
    expect(found.generation()).toEqual({ bosTokenId: 3, frame: { before: [3], after: [] }, eosTokenIds: [5, 6] });
    expect(found.config().values).toMatchObject({ bos_token_id: 3 });
    expect(found.chatTemplate()).toMatchObject({
      template: "{{ bos_token }}",
      tokens: { bos_token: "t3", eos_token: "t5", pad_token: "t7" },
    });
    const silent = source({ metadata: { ...tokens, "tokenizer.ggml.add_bos_token": false } });
    expect(silent.generation()).toMatchObject({ bosTokenId: 3, frame: { before: [], after: [] } });
    const ended = source({ metadata: { ...tokens, "tokenizer.ggml.add_eos_token": true } });
    expect(ended.generation()).toMatchObject({ frame: { before: [3], after: [5] } });
    expect(silent.chatTemplate()?.tokens).toMatchObject({ bos_token: "t3" });
    expect(() => source({ metadata: { ...tokens, "tokenizer.ggml.eot_token_id": id(48) } }).generation()).toThrow(
      /eot_token_id is 48 \(uint32\), but it must be the id of a token, from 0 to 47/,
    );
  });

  it.each([
    [{ "llama.attention.scale": { float32: 0.5 } }, /llama.attention.scale is 0.5 \(float32\), but only 1 is known/],
    [{ "llama.logit_scale": { float32: 16 } }, /llama.logit_scale is 16/],
    [{ "llama.final_logit_softcapping": { float32: 30 } }, /llama.final_logit_softcapping is 30/],
    [{ "llama.attention.causal": false }, /llama.attention.causal is false/],
    [{ "llama.attention.sliding_window": { uint32: 2 } }, /llama.attention.sliding_window is 2/],
  ])("refuses what no Llama does: %j", (metadata, reason) => {
    expect(() => config({ metadata })).toThrow(reason);
  });

  it("may have what changes nothing", () => {
    const neutral = {
      "llama.logit_scale": { float32: 1 },
      "llama.attention.causal": true,
      "llama.attention.sliding_window": { uint32: 1 << 20 },
    };
    expect(config({ metadata: neutral })).toEqual(config());
  });

  it("takes head sizes from the metadata or from the width", () => {
    expect(config()).toMatchObject({ head_dim: 8, num_key_value_heads: 2, tie_word_embeddings: true });
    expect(() => config({ metadata: { "llama.attention.value_length": { uint32: 16 } } })).toThrow(
      /value_length is 16/,
    );
    expect(() =>
      config({
        metadata: { "llama.attention.head_count": { uint32: 32 }, "llama.attention.head_count_kv": { uint32: 32 } },
      }),
    ).toThrow(/key_length is absent, but a head has 1 dimensions/);
  });
});

describe("scaled rotary positions", () => {
  const scaling = (values: Options["metadata"], tensors: Options["tensors"] = {}) =>
    config({ metadata: values ?? {}, tensors }).rope_scaling;
  const type = (name: string) => ({ "llama.rope.scaling.type": name, "llama.rope.scaling.factor": { float32: 4 } });

  it("are those that config.json describes", () => {
    expect(scaling({ "llama.rope.scaling.type": "none" })).toBe(null);
    expect(scaling(type("linear"))).toEqual({ rope_type: "linear", factor: 4 });
    expect(scaling({ "llama.rope.scale_linear": { float32: 2 } })).toEqual({ rope_type: "linear", factor: 2 });
    expect(scaling({ ...type("yarn"), "llama.rope.scaling.original_context_length": { uint32: 16 } })).toEqual({
      rope_type: "yarn",
      factor: 4,
      original_max_position_embeddings: 16,
      attention_factor: 0.1 * Math.log(4) + 1,
      beta_fast: 32,
      beta_slow: 1,
    });
  });

  it("are refused where they are not known or contradict each other", () => {
    const freqs = { "rope_freqs.weight": ones(4) };
    expect(scaling({}, freqs)).toEqual({ rope_type: "divided", divisors: [1, 1, 1, 1] });
    expect(() => scaling(type("linear"), freqs)).toThrow(/scaling.type is "linear", but the frequencies also have/);
    expect(() => scaling({}, { "rope_freqs.weight": ones(8) })).toThrow(/"rope_freqs.weight" has shape \[8\]/);
    const zero = f32([4], Float32Array.of(1, 1, 0, 1));
    expect(() => scaling({}, { "rope_freqs.weight": zero })).toThrow(/"rope_freqs.weight" has the element 0/);
    expect(() => scaling(type("longrope"))).toThrow(/"longrope", but the kinds known here are none, linear and yarn/);
    expect(() => scaling({ ...type("yarn"), "llama.rope.scaling.yarn_log_multiplier": { float32: 0.1 } })).toThrow(
      /yarn_log_multiplier/,
    );
  });
});

describe("other architectures of GGUF", () => {
  const read = (architecture: string, tensors: Options["tensors"] = {}) => {
    const model = source({ architecture, tensors });
    const values = model.config().values;
    const weights = model.openCheckpoint();
    return {
      values,
      names: [...weights.names()],
      row: () => weights.readF32("model.layers.0.self_attn.q_proj.weight", 32, 1),
    };
  };

  it("qwen2: biases of q, k and v, rows as stored", () => {
    const biases = { "blk.0.attn_q.bias": ones(32), "blk.0.attn_k.bias": ones(16), "blk.0.attn_v.bias": ones(16) };
    const { values, names, row } = read("qwen2", biases);
    expect(values).toMatchObject({ model_type: "qwen2", head_dim: 8 });
    expect(names).toContain("model.layers.0.self_attn.v_proj.bias");
    expect([...row()]).toEqual([32]);
    expect(() => read("qwen2", { "blk.0.attn_output.bias": ones(32) })).toThrow(/"blk.0.attn_output.bias" is none/);
  });

  it("qwen3: norms of q and k", () => {
    const { values, names } = read("qwen3", {
      "blk.0.attn_q_norm.weight": ones(8),
      "blk.0.attn_k_norm.weight": ones(8),
    });
    expect(values).toMatchObject({ model_type: "qwen3" });
    expect(names).toContain("model.layers.0.self_attn.q_norm.weight");
  });

  it("llama has no norms of q and k", () => {
    expect(() => read("llama", { "blk.0.attn_q_norm.weight": ones(8) })).toThrow(/"blk.0.attn_q_norm.weight" is none/);
  });
});
