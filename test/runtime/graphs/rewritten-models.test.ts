import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { readConfig } from "../../../models/config.js";
import { openCheckpoint } from "../../../models/weights/checkpoint.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { expectedTensors, goldenFolder, goldenSequences, maxDifference } from "../../golden-tensors.js";
import { writeTensors } from "../../models/random-model.js";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";

// Variations that no golden model has, made of one that has none of them, so that its logits must come out.

interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}
type Rewrite = (tensor: Tensor) => readonly Tensor[];

/** A golden model with other config fields, and with what `rewrite` makes of each tensor. */
function rewritten(name: string, fields: object, rewrite: Rewrite): string {
  const from = goldenFolder(`architectures/${name}`);
  const folder = temporaryFolder();
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...readConfig(from).values, ...fields }));
  using checkpoint = openCheckpoint(from);
  const tensors = [...checkpoint.names()].flatMap((tensor) =>
    rewrite({ name: tensor, shape: checkpoint.shape(tensor), values: checkpoint.readF32(tensor) }),
  );
  writeTensors(join(folder, "model.safetensors"), tensors);
  return folder;
}

/** Logits of the golden model's first text, the second half of it decoded. */
async function logitsOf(path: string, name: string): Promise<number[]> {
  const [ids = []] = goldenSequences(`architectures/${name}`);
  const half = ids.slice(0, 28);
  const cacheRoot = temporaryFolder();
  using runner = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), { window: 64, threads: 1 });
  const cache = runner.openCache({ window: 64, sinks: 2 });
  const row = cache.allocate();
  const prefilled = [...runner.prefill(cache, row, half, [...half.keys()])];
  const logits = [...prefilled, ...ids.slice(28).flatMap((id) => [...runner.decode(cache, row, [id])])];
  runner.closeCache(cache);
  return logits;
}

const goldenLogits = (name: string): Float32Array =>
  expectedTensors(`architectures/${name}`).get("seq0.logits")?.values ?? new Float32Array();

describe("a checkpoint whose names lack their prefix is the same model", () => {
  it.each([
    ["gpt_neox", "gpt_neox."],
    ["gptj", "transformer."],
    ["mpt", "transformer."],
    ["falcon", "transformer."],
    ["llama", "model."],
    ["qwen3", "model."],
    ["phi3", "model."],
    ["gemma2", "model."],
  ])("%s without %s", async (name, prefix) => {
    const path = rewritten(name, {}, (tensor) => [{ ...tensor, name: tensor.name.replace(prefix, "") }]);
    expect(maxDifference(await logitsOf(path, name), goldenLogits(name))).toBeLessThan(2e-4);
  });

  it("unless a tensor is missing under either name", async () => {
    const lost = "transformer.h.1.ln_2.bias";
    const path = rewritten("gpt2", {}, (tensor) => (tensor.name === lost ? [] : [tensor]));
    await expect(logitsOf(path, "gpt2")).rejects.toThrow(`model.safetensors: tensor "${lost}" is missing`);
  });
});

describe("a Gemma 3 out of its vision wrapper is the same model, however its tensors are spelled", () => {
  it.each([
    ["language_model.model.", "language_model.lm_head."],
    ["model.language_model.", "lm_head."],
    ["language_model.", "lm_head."],
    ["model.language_model.model.", "lm_head."],
  ])("%s %s", async (base, head) => {
    const text_config = { ...readConfig(goldenFolder("architectures/gemma3_text")).values };
    const path = rewritten("gemma3_text", { model_type: "gemma3", text_config }, (tensor) => [
      { ...tensor, name: tensor.name.replace(/^model\./, base).replace(/^lm_head\./, head) },
    ]);
    expect(maxDifference(await logitsOf(path, "gemma3_text"), goldenLogits("gemma3_text"))).toBeLessThan(2e-4);
  });

  it("but a text model whose tensors have the wrapper's names is refused, as its config has no wrapper", async () => {
    const path = rewritten("gemma3_text", {}, (tensor) => [{ ...tensor, name: `language_model.${tensor.name}` }]);
    await expect(logitsOf(path, "gemma3_text")).rejects.toThrow('tensor "model.embed_tokens.weight" is missing');
  });
});

describe("a tied model", () => {
  const HEAD = "lm_head.weight";
  const EMBEDDING = "model.embed_tokens.weight";
  const noticesOf = async (path: string) =>
    (await compileModel({ path, precision: "f32", cacheRoot: temporaryFolder() })).notices;

  it("may be stored under the head's name", async () => {
    const path = rewritten("llama3", {}, (tensor) => [tensor.name === EMBEDDING ? { ...tensor, name: HEAD } : tensor]);
    expect(maxDifference(await logitsOf(path, "llama3"), goldenLogits("llama3"))).toBeLessThan(2e-4);
  });

  it("may have a copy of the embedding as its head", async () => {
    const path = rewritten("llama3", {}, (tensor) =>
      tensor.name === EMBEDDING ? [tensor, { ...tensor, name: HEAD }] : [tensor],
    );
    expect(await noticesOf(path)).toEqual([]);
    expect(maxDifference(await logitsOf(path, "llama3"), goldenLogits("llama3"))).toBeLessThan(2e-4);
  });

  it("has another head if one is stored, and says so", async () => {
    const path = rewritten("llama", { tie_word_embeddings: true }, (tensor) => [tensor]);
    expect(maxDifference(await logitsOf(path, "llama"), goldenLogits("llama"))).toBeLessThan(2e-4);
    expect(await noticesOf(path)).toEqual([
      `tie_word_embeddings is true, but ${EMBEDDING} and ${HEAD} are stored with different values: both are used`,
    ]);
  });

  it("is not made of one that is not: without a head it is refused", async () => {
    const path = rewritten("llama", {}, (tensor) => (tensor.name === HEAD ? [] : [tensor]));
    await expect(logitsOf(path, "llama")).rejects.toThrow(`tensor "${HEAD}" is missing`);
  });

  it("without either matrix is refused, naming the embedding", async () => {
    const path = rewritten("llama3", {}, (tensor) => (tensor.name === EMBEDDING ? [] : [tensor]));
    await expect(logitsOf(path, "llama3")).rejects.toThrow(`tensor "${EMBEDDING}" is missing`);
  });

  it("as GPT-NeoX may have its head under transformers 5's name", async () => {
    const path = rewritten("gpt_neox", {}, (tensor) => [
      { ...tensor, name: tensor.name.replace(/^embed_out\./, "lm_head.") },
    ]);
    expect(maxDifference(await logitsOf(path, "gpt_neox"), goldenLogits("gpt_neox"))).toBeLessThan(2e-4);
  });
});

it("tensors that an architecture does not have are named, and not read", async () => {
  const path = rewritten("llama", {}, (tensor) => {
    const bias = { name: "model.layers.0.self_attn.q_proj.bias", shape: [1], values: Float32Array.of(1) };
    return tensor.name === "model.norm.weight" ? [tensor, bias] : [tensor];
  });
  const { notices } = await compileModel({ path, precision: "f32", cacheRoot: temporaryFolder() });
  expect(notices).toEqual([expect.stringMatching(/are not read: model\.layers\.0\.self_attn\.q_proj\.bias$/)]);
});

describe("a head that is stored, and is the embedding, is the same as a tied one", () => {
  it.each([
    ["gpt2", "transformer.wte.weight"],
    ["bloom", "transformer.word_embeddings.weight"],
    ["mpt", "transformer.wte.weight"],
    ["falcon", "transformer.word_embeddings.weight"],
  ])("%s", async (name, embedding) => {
    const path = rewritten(name, { tie_word_embeddings: false }, (tensor) =>
      tensor.name === embedding ? [tensor, { ...tensor, name: "lm_head.weight" }] : [tensor],
    );
    expect(maxDifference(await logitsOf(path, name), goldenLogits(name))).toBeLessThan(2e-4);
  });

  it("gpt_neox", async () => {
    let embedding: Tensor | undefined;
    const keep: Rewrite = (tensor) => {
      if (tensor.name === "gpt_neox.embed_in.weight") embedding = tensor;
      return tensor.name === "embed_out.weight" ? [] : [tensor];
    };
    const tied = rewritten("gpt_neox", { tie_word_embeddings: true }, keep);
    const untied = rewritten("gpt_neox", {}, (tensor) =>
      tensor.name === "embed_out.weight" && embedding ? [{ ...tensor, values: embedding.values }] : [tensor],
    );
    const logits = await logitsOf(untied, "gpt_neox");
    expect(maxDifference(await logitsOf(tied, "gpt_neox"), logits)).toBeLessThan(2e-4);
    expect(maxDifference(logits, goldenLogits("gpt_neox"))).toBeGreaterThan(1);
  });
});

describe("GPT-2's scales of scores", () => {
  /** Multiplies the queries, the first third of c_attn's outputs [.., 3 d], by a factor of the layer. */
  const queriesTimes =
    (factor: (layer: number) => number): Rewrite =>
    (tensor) => {
      const layer = /^transformer\.h\.(\d+)\.attn\.c_attn\./.exec(tensor.name)?.[1];
      if (layer === undefined) return [tensor];
      const scaled = tensor.values.map((value, i) => (i % 96 < 32 ? value * factor(Number(layer)) : value));
      return [{ ...tensor, values: scaled }];
    };

  it("scale_attn_by_inverse_layer_idx divides those of the second layer by 2", async () => {
    const path = rewritten(
      "gpt2",
      { scale_attn_by_inverse_layer_idx: true },
      queriesTimes((layer) => layer + 1),
    );
    expect(maxDifference(await logitsOf(path, "gpt2"), goldenLogits("gpt2"))).toBeLessThan(2e-4);
  });

  it("scale_attn_weights: false leaves them as they are", async () => {
    const path = rewritten(
      "gpt2",
      { scale_attn_weights: false },
      queriesTimes(() => 1 / 4),
    );
    expect(maxDifference(await logitsOf(path, "gpt2"), goldenLogits("gpt2"))).toBeLessThan(2e-4);
  });
});

it("a GPT-NeoX without attention_bias is one whose biases of attention are 0", async () => {
  const isBias = (name: string) => /attention\.(query_key_value|dense)\.bias$/.test(name);
  const zeroed = rewritten("gpt_neox", {}, (tensor) => [
    isBias(tensor.name) ? { ...tensor, values: tensor.values.map(() => 0) } : tensor,
  ]);
  const without = rewritten("gpt_neox", { attention_bias: false }, (tensor) => (isBias(tensor.name) ? [] : [tensor]));
  const logits = await logitsOf(without, "gpt_neox");
  expect(maxDifference(logits, await logitsOf(zeroed, "gpt_neox"))).toBeLessThan(2e-4);
  expect(maxDifference(logits, goldenLogits("gpt_neox"))).toBeGreaterThan(0.01);
});

it("a Falcon 11B, with one norm side by side, is a 40B whose two norms are equal", async () => {
  const equal = new Map<string, Float32Array>();
  const one = rewritten("falcon", { num_ln_in_parallel_attn: 1 }, (tensor) => {
    if (tensor.name.includes("ln_mlp")) return [];
    if (tensor.name.includes("ln_attn")) equal.set(tensor.name.replace("ln_attn", "ln_mlp"), tensor.values);
    return [{ ...tensor, name: tensor.name.replace("ln_attn", "input_layernorm") }];
  });
  const two = rewritten("falcon", {}, (tensor) => [{ ...tensor, values: equal.get(tensor.name) ?? tensor.values }]);
  const logits = await logitsOf(one, "falcon");
  expect(maxDifference(logits, await logitsOf(two, "falcon"))).toBeLessThan(2e-4);
  expect(maxDifference(logits, goldenLogits("falcon"))).toBeGreaterThan(0.01);
});
