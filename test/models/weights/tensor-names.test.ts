import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { openCheckpoint } from "../../../models/weights/checkpoint.js";
import { type TensorNames, underNames, unreadSentence } from "../../../models/weights/tensor-names.js";
import { WeightPlan } from "../../../models/weights/weight-plan.js";
import { goldenFolder } from "../../golden-tensors.js";
import { writeTensors } from "../random-model.js";
import { temporaryFolder } from "./write-safetensors.js";

const NAMES: TensorNames = {
  base: "model.",
  embedding: "model.embed.weight",
  head: "lm_head.weight",
  renamed: [["wrapped.", "model."]],
};

/** Weights of one number each: their place in the list. */
function stored(...names: string[]) {
  const folder = temporaryFolder();
  const tensors = names.map((name, i) => ({ name, shape: [1], values: Float32Array.of(i) }));
  writeTensors(join(folder, "model.safetensors"), tensors);
  return openCheckpoint(folder);
}

describe("a tensor is found", () => {
  it.each([
    ["under its own name", "model.a", "model.a"],
    ["without the base model's", "a", "model.a"],
    ["with the base model's before the head", "model.lm_head.weight", "lm_head.weight"],
    ["under another beginning", "wrapped.a", "model.a"],
  ])("%s", (_, name, asked) => {
    using weights = underNames(stored("other", name), NAMES, false);
    expect(weights.has(asked)).toBe(true);
    expect([...weights.readF32(asked)]).toEqual([1]);
  });

  it("with all that GPT-2 has, stored without its prefix", () => {
    const names = { base: "transformer.", embedding: "transformer.wte.weight", head: "lm_head.weight" };
    using whole = openCheckpoint(goldenFolder("architectures/gpt2"));
    using weights = underNames(openCheckpoint(goldenFolder("architectures/gpt2_noprefix")), names, true);
    for (const name of whole.names()) {
      weights.expect(name, whole.shape(name));
      expect(weights.readF32(name)).toEqual(whole.readF32(name));
    }
    expect(weights.has("transformer.h.9.ln_1.weight")).toBe(false);
    expect(() => weights.shape("transformer.h.9.ln_1.weight")).toThrow('"transformer.h.9.ln_1.weight" is missing');
    expect(() => weights.expect("transformer.wte.weight", [1])).toThrow('tensor "wte.weight" has shape [128, 32]');
  });

  it("as the head where only that is stored of a tied pair", () => {
    using tied = underNames(stored("lm_head.weight"), NAMES, true);
    expect([...tied.readF32("model.embed.weight")]).toEqual([0]);
    using apart = underNames(stored("lm_head.weight"), NAMES, false);
    expect(() => apart.readF32("model.embed.weight")).toThrow('tensor "model.embed.weight" is missing');
  });
});

it("a tensor under two names is refused", () => {
  using weights = underNames(stored("model.a", "a"), NAMES, false);
  expect(() => weights.has("model.a")).toThrow(ModelFormatError);
  expect(() => weights.has("model.a")).toThrow('tensors "model.a" and "a" are both "model.a"');
});

it("what a model does not read is named, but for what no forward pass needs", () => {
  const plan = new WeightPlan();
  plan.plain("a", { tensor: "model.a", shape: [1] }, "float32");
  using read = stored("a", "model.embed.weight", "lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq");
  expect(unreadSentence(read, NAMES, plan)).toBeNull();
  using more = stored("a", "h.0.attn.bias", "b.0", "b.1", "b.2", "b.3", "b.4");
  expect(unreadSentence(more, NAMES, plan)).toMatch(/are not read: b\.0, b\.1, b\.2, b\.3 and 1 more$/);
});
