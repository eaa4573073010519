import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { llama } from "../../models/architectures/llama.js";
import { type ConfigFields, modelType, readConfig } from "../../models/config.js";
import { ModelFormatError } from "../../models/errors.js";
import { temporaryFolder, thrownBy } from "./weights/write-safetensors.js";

const GOLDEN = "test/golden/architectures";
const sound = readConfig(join(GOLDEN, "hostile", "ok"));
const variant = (values: object): ConfigFields => ({ file: "config.json", values: { ...sound.values, ...values } });

/** A folder whose file of this name has this text. */
function folderWith(name: string, text: string): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, name), text);
  return folder;
}

describe("the config of a Llama", () => {
  it.each(["llama", "llama3", "llama_yarn", "llama_bias", "llama_bf16"])(
    "of %s is the same in the spelling of transformers 4 and 5",
    (name) => {
      const now = readConfig(join(GOLDEN, name));
      const before = readConfig(folderOf(join(GOLDEN, name, "config-v4.json")));
      expect(before.values).not.toHaveProperty("rope_parameters");
      expect(llama.readConfig(before)).toEqual(llama.readConfig(now));
    },
  );

  it("gives every size, rope scaling included", () => {
    const rope = { type: "default", theta: 10000 };
    const plain = { window: "lambda", positions: { kind: "rotary", rope, rotaryDim: 16 } };
    expect(llama.readConfig(readConfig(join(GOLDEN, "llama_bias")))).toEqual({
      vocabSize: 128,
      hiddenSize: 48,
      intermediateSize: 72,
      layers: 2,
      heads: 6,
      kvHeads: 2,
      headDim: 16,
      rmsNormEps: 1e-5,
      activation: "silu",
      maxPositionEmbeddings: 128,
      tieWordEmbeddings: false,
      biases: { queryKeyValue: true, attentionOutput: true, mlp: true },
      layerGeometry: [plain, plain],
      bosTokenId: 1,
      eosTokenIds: [2],
    });
    const scaled = llama.readConfig(readConfig(join(GOLDEN, "llama3")));
    expect(scaled).toMatchObject({ tieWordEmbeddings: true });
    expect(scaled.layerGeometry[2]?.positions).toMatchObject({
      rope: { type: "llama3", theta: 500000, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalLength: 32 },
    });
  });

  it("takes defaults where fields are left out or null, and several end tokens", () => {
    const minimal = {
      file: "config.json",
      values: {
        vocab_size: 32,
        hidden_size: 16,
        intermediate_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        num_key_value_heads: null,
        head_dim: null,
      },
    };
    const config = llama.readConfig(minimal);
    expect(config).toMatchObject({ kvHeads: 4, headDim: 4, rmsNormEps: 1e-6, tieWordEmbeddings: false });
    expect(config).toMatchObject({ bosTokenId: null, eosTokenIds: [] });
    expect(config.layerGeometry[0]?.positions).toMatchObject({ rope: { type: "default", theta: 10000 } });
    expect(llama.readConfig(variant({ eos_token_id: [3, 5] })).eosTokenIds).toEqual([3, 5]);
    expect(llama.readConfig(variant({ eos_token_id: null, bos_token_id: -1 }))).toMatchObject({
      bosTokenId: null,
      eosTokenIds: [],
    });
  });

  it.each([
    ["heads_do_not_divide", "num_key_value_heads is 3, but it must divide num_attention_heads, which is 4"],
    ["zero_heads", "num_attention_heads is 0, but it must be a whole number from 1 to 4096"],
    ["absurd_config", "hidden_size is 2147483648, but it must be a whole number from 1 to 1048576"],
    ["unknown_activation", 'hidden_act is "warp9", but the activations known here are silu, swish'],
    ["unknown_rope", 'rope_parameters.rope_type is "spiral", but the rope types known here are default,'],
  ])("is refused without a look at the weights: %s", (name, reason) => {
    const error = thrownBy(() => llama.readConfig(readConfig(join(GOLDEN, "hostile", name))));
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(error).toMatchObject({ file: join(GOLDEN, "hostile", name, "config.json") });
    expect(error).toMatchObject({ reason: expect.stringContaining(reason) });
  });

  it.each([
    [{ num_hidden_layers: 1e9 }, /num_hidden_layers is 1000000000/],
    [{ num_hidden_layers: 2.5 }, /num_hidden_layers is 2.5/],
    [{ vocab_size: "32" }, /vocab_size is "32"/],
    [{ vocab_size: undefined }, /vocab_size is absent/],
    [{ head_dim: 5 }, /head_dim is 5, but it must be even/],
    [{ head_dim: null, hidden_size: 18 }, /hidden_size is 18, but without a head_dim it must be a multiple/],
    [{ num_key_value_heads: 8 }, /num_key_value_heads is 8/],
    [{ rms_norm_eps: -1 }, /rms_norm_eps is -1/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5/],
    [{ bos_token_id: 32 }, /bos_token_id is 32, but it must be below vocab_size/],
    [{ eos_token_id: "</s>" }, /eos_token_id is "<\/s>"/],
    [{ rope_parameters: null, rope_scaling: "yarn" }, /rope_scaling is "yarn", but it must be an object/],
    [
      { rope_parameters: null, rope_scaling: { type: "dynamic", factor: 2 } },
      /rope_scaling.type is "dynamic".*cannot follow/,
    ],
    [{ rope_parameters: null, rope_scaling: { type: "linear" } }, /rope_scaling.factor is absent/],
    [{ rope_parameters: null, rope_scaling: { type: "linear", factor: 0 } }, /rope_scaling.factor is 0/],
    [{ rope_parameters: null, rope_scaling: { type: "__proto__" } }, /rope_scaling.type is "__proto__"/],
    [{ rope_parameters: null, rope_theta: 0 }, /rope_theta is 0/],
    [
      { rope_parameters: null, rope_scaling: { type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      /rope_scaling.high_freq_factor is 4, but it must be above low_freq_factor/,
    ],
    [
      { rope_parameters: null, rope_scaling: { type: "longrope", short_factor: [1], long_factor: [1, 2] } },
      /rope_scaling.short_factor is \[1\], but it must have 2 entries/,
    ],
  ])("is refused with field and value: %j", (values, reason) => {
    expect(() => llama.readConfig(variant(values))).toThrow(reason);
  });
});

/** A folder with a copy of this file as config.json. */
function folderOf(path: string): string {
  return folderWith("config.json", JSON.stringify(readConfigText(path)));
}
const readConfigText = (path: string): unknown => JSON.parse(readFileSync(path, "utf8"));

describe("config.json", () => {
  it("is named where it is absent, cut off, or no object", () => {
    const refusal = (folder: string) => thrownBy(() => readConfig(folder));
    const hostile = (name: string) => join(GOLDEN, "hostile", name);
    expect(refusal(hostile("no_config"))).toMatchObject({
      file: join(hostile("no_config"), "config.json"),
      reason: "there is no such file",
    });
    expect(refusal(hostile("config_not_json"))).toMatchObject({
      file: join(hostile("config_not_json"), "config.json"),
      reason: expect.stringMatching(/not valid JSON \(cut off\?\)/),
    });
    expect(refusal(folderWith("config.json", "[1]"))).toMatchObject({ reason: "the file holds no JSON object" });
    expect(refusal(folderWith("config.json", "\xff\xfe{}"))).toBeInstanceOf(ModelFormatError);
    const folder = temporaryFolder();
    mkdirSync(join(folder, "config.json"));
    expect(refusal(folder)).toMatchObject({ reason: "this is not a regular file" });
  });

  it("may start with a byte order mark", () => {
    expect(readConfig(folderWith("config.json", '\ufeff{"a":1}')).values).toEqual({ a: 1 });
  });

  it("has a model_type that is known, or is refused with it and what is known", () => {
    expect(modelType(sound, ["gpt2", "llama"])).toBe("llama");
    const unknown = readConfig(join(GOLDEN, "hostile", "unknown_architecture"));
    expect(() => modelType(unknown, ["gpt2", "llama"])).toThrow(
      'config.json: model_type is "quantum_llama", but the architectures known here are: gpt2, llama',
    );
    expect(() => modelType(variant({ model_type: undefined }), ["llama"])).toThrow(/model_type is absent/);
  });
});
