import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../../models/errors.js";
import { openSae } from "../../../../models/sae/formats/index.js";
import { temporaryFolder } from "../../weights/write-safetensors.js";
import { GOLDEN, writeF32 } from "../golden-sae.js";

const AFA = join(
  "test",
  "golden",
  "top-afa",
  "init",
  "checkpoints",
  "blocks.1.hook_resid_pre_256_topafa_0_0.03125_20000",
);

/** A golden folder whose config has other values; undefined takes a field out. */
function changed(golden: string, file: string, values: Readonly<Record<string, unknown>>): string {
  const folder = temporaryFolder();
  cpSync(golden, folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, file), "utf8"));
  writeFileSync(join(folder, file), JSON.stringify({ ...config, ...values }));
  return folder;
}

async function refusal(folder: string): Promise<string> {
  const error = await openSae(folder).then(
    () => new Error("not refused"),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ModelFormatError)) throw error;
  expect(dirname(error.file)).toBe(folder);
  return error.reason;
}

const saelens = (name: string, values: Readonly<Record<string, unknown>>) =>
  changed(join(GOLDEN, "saelens", name), "cfg.json", values);

describe("what is not understood is refused with a sentence", () => {
  it.each([
    [
      "temporal",
      "standard-none",
      { architecture: "temporal" },
      /architecture is "temporal", but what is known here is: standard,/,
    ],
    ["matching pursuit", "standard-none", { architecture: "matching_pursuit" }, /matching_pursuit/],
    [
      "an unknown normalisation",
      "standard-none",
      { normalize_activations: "constant_scalar_rescale" },
      /normalize_activations/,
    ],
    ["an unknown shape of inputs", "standard-none", { reshape_activations: "heads" }, /reshape_activations is "heads"/],
    [
      "another activation function",
      "old-flat-standard",
      { activation_fn_str: "tanh-relu" },
      /activation_fn.*relu, topk/,
    ],
    ["top-k without k", "topk", { k: undefined }, /k is absent, but top-k keeps/],
    ["k beyond the features", "topk", { k: 129 }, /k is 129, but top-k keeps a whole number from 1 to 128/],
    ["a fractional k", "topk", { k: 7.5 }, /k is 7.5/],
    ["another d_sae", "standard-none", { d_sae: 64 }, /"W_enc" has shape \[32,128\], but it must be \[32,64\]/],
    ["an absurd d_in", "standard-none", { d_in: 1e12 }, /d_in is 1000000000000/],
    ["no d_in", "standard-none", { d_in: undefined }, /d_in is absent/],
    ["an autoencoder with another output", "standard-none", { d_out: 24 }, /d_out is 24, but d_in is 32/],
    ["b_dec before a transcoder", "transcoder", { apply_b_dec_to_input: true }, /apply_b_dec_to_input is true/],
    [
      "a tensor that has no meaning",
      "jumprelu-none",
      { architecture: "standard" },
      /not known what these tensors do here: "threshold"/,
    ],
    ["a missing tensor", "standard-none", { architecture: "jumprelu" }, /"threshold" is missing/],
    ["a hook that is no name", "standard-none", { metadata: { hook_name: 7 } }, /metadata.hook_name is 7/],
    ["a field that nobody knows", "standard-none", { post_scale: 2 }, /post_scale is 2, but it is not known here/],
    [
      "an option of the activation",
      "old-flat-topk",
      { activation_fn_kwargs: { k: 8, signed: true } },
      /kwargs.signed is true/,
    ],
    ["whitened inputs", "standard-none", { normalize_activations: "covariance_whitening" }, /"covariance_whitening"/],
    [
      "inputs of heads at another hook",
      "standard-none",
      { reshape_activations: "hook_z" },
      /reshape_activations is "hook_z"/,
    ],
    [
      "a model of an unknown library",
      "standard-none",
      { metadata: { model_class_name: "HookedMamba" } },
      /metadata.model_class_name is "HookedMamba"/,
    ],
    [
      "a model that was changed in an unknown way",
      "standard-none",
      { metadata: { model_from_pretrained_kwargs: { load_in_4bit: true } } },
      /metadata.model_from_pretrained_kwargs.load_in_4bit is true/,
    ],
    [
      "centred weights of a model that cannot have them",
      "old-flat-standard",
      { model_class_name: "AutoModelForCausalLM", model_from_pretrained_kwargs: { center_writing_weights: true } },
      /model_from_pretrained_kwargs.center_writing_weights is true/,
    ],
  ])("SAELens: %s", async (_, name, values, reason) => expect(await refusal(saelens(name, values))).toMatch(reason));

  it("SAELens: a scaling factor that is not one", async () => {
    expect(await refusal(saelens("old-flat-scaling_factor-refuse", {}))).toMatch(/scaling_factor" is not all ones/);
  });

  it("SAELens: top-AFA that does not subtract b_dec", async () => {
    const folder = saelens("standard-no-b_dec-input", { architecture: "topafa" });
    expect(await refusal(folder)).toMatch(/apply_b_dec_to_input is false, but top-AFA/);
  });

  it("SAELens: weights that are not numbers", async () => {
    const folder = saelens("standard-none", { d_in: 1, d_sae: 2 });
    const vector = (...values: number[]): [number[], Float32Array] => [[values.length], Float32Array.from(values)];
    writeF32(join(folder, "sae_weights.safetensors"), {
      W_enc: [[1, 2], Float32Array.of(1, 2)],
      W_dec: [[2, 1], Float32Array.of(1, 2)],
      b_enc: vector(0, Number.NaN),
      b_dec: vector(0),
    });
    expect(await refusal(folder)).toMatch(/"b_enc" holds values that are not finite/);
  });

  it.each([
    ["negative values kept", { signed: true }, /signed is true/],
    ["an unknown activation", { activation: "gelu" }, /activation is "gelu"/],
    ["groups that do not divide", { activation: "groupmax", k: 7 }, /k is 7, but 128 features cannot be split/],
    ["k beyond the features", { k: 200 }, /k is 200, but there are only 128/],
    ["a skip that is not there", { skip_connection: true }, /"W_skip" is missing/],
    ["a field that nobody knows", { jump: 0.5 }, /jump is 0.5, but it is not known here/],
  ])("sparsify: %s", async (_, values, reason) => {
    const folder = changed(join(GOLDEN, "sparsify", "topk", "layers.1"), "cfg.json", values);
    expect(await refusal(folder)).toMatch(reason);
  });

  it.each([
    [
      "an unknown class",
      { dict_class: "CrossCoder", activation_dim: 32, dict_size: 128 },
      /trainer.dict_class is "CrossCoder"/,
    ],
    [
      "another class than the tensors'",
      { dict_class: "GatedAutoEncoder", activation_dim: 32, dict_size: 128 },
      /"decoder_bias" is missing/,
    ],
    [
      "another size",
      { dict_class: "AutoEncoder", activation_dim: 16, dict_size: 128 },
      /"encoder.weight" has shape \[128,32\]/,
    ],
    ["no trainer", undefined, /trainer is absent/],
    [
      "a field that nobody knows",
      { dict_class: "AutoEncoder", activation_dim: 32, dict_size: 128, input_scale: 3 },
      /trainer.input_scale is 3, but it is not known here/,
    ],
  ])("dictionary_learning: %s", async (_, trainer, reason) => {
    const folder = changed(join(GOLDEN, "dictionary_learning", "AutoEncoder", "trainer_0"), "config.json", { trainer });
    expect(await refusal(folder)).toMatch(reason);
  });

  it.each([
    ["AutoEncoderTopK", { k: 9 }, /trainer.k is 9, but tensor "k" is 8/],
    ["AutoEncoderTopK-k-in-config", { k: null }, /trainer.k is null, but there are 128 features/],
    ["AutoEncoderTopK-k-in-config", { k: 129 }, /trainer.k is 129/],
  ])("dictionary_learning: %s with %j", async (name, values, reason) => {
    const golden = join(GOLDEN, "dictionary_learning", name, "trainer_0");
    const { trainer } = JSON.parse(readFileSync(join(golden, "config.json"), "utf8"));
    expect(await refusal(changed(golden, "config.json", { trainer: { ...trainer, ...values } }))).toMatch(reason);
  });

  it.each([
    ["a field that nobody knows", { gain: 2 }, /gain is 2, but it is not known here/],
    ["batch-top-k, which stores no threshold", { sae_type: "batchtopk" }, /sae_type is "batchtopk"/],
    ["top-k without k", { sae_type: "topk" }, /top_k is 0/],
    ["another size", { dict_size: 128 }, /"W_enc" has shape \[32,256\]/],
  ])("top-afa-sae: %s", async (_, values, reason) => {
    expect(await refusal(changed(AFA, "config.json", values))).toMatch(reason);
  });
});

describe("what changes nothing is no reason to refuse", () => {
  it.each([
    ["no normalisation at all", "standard-none", { normalize_activations: null }],
    [
      "fields that ask for nothing",
      "standard-none",
      { post_scale: null, extra: [], more: {}, other: false, type: "none" },
    ],
    [
      "fields of a training run",
      "old-flat-standard",
      { use_ghost_grads: true, dead_feature_threshold: 1e-6, lp_norm: 1 },
    ],
    [
      "what leaves the residual stream as it is",
      "standard-none",
      {
        metadata: {
          hook_name: "blocks.1.hook_resid_post",
          model_from_pretrained_kwargs: {
            center_writing_weights: false,
            ...{ fold_ln: true, fold_value_biases: true, center_unembed: true, refactor_factored_attn_matrices: true },
            ...{ dtype: "float32", n_devices: 2, device_map: "auto", default_prepend_bos: true },
          },
        },
      },
    ],
  ])("%s", async (_, name, values) => {
    const [plain, other] = [await openSae(join(GOLDEN, "saelens", name)), await openSae(saelens(name, values))];
    const { file: _f, metadata: _m, hook: _h, modelName: _n, ...sae } = plain;
    expect(other).toMatchObject(sae);
  });

  it("another revision of a model is another model", async () => {
    const kwargs = { revision: "step3000" };
    const folder = saelens("standard-none", {
      metadata: { model_name: "pythia-70m", model_from_pretrained_kwargs: kwargs },
    });
    expect((await openSae(folder)).modelName).toBe("pythia-70m at revision step3000");
  });

  it("a hook of Hugging Face's class is the output of a module", async () => {
    const metadata = { model_class_name: "AutoModelForCausalLM", hook_name: "model.layers.3" };
    const { hook } = await openSae(saelens("standard-none", { metadata }));
    expect(hook).toEqual({ tappable: true, name: "blocks.3.hook_resid_post", ownOutput: false });
  });

  it("but the input of a submodule has no tap", async () => {
    const golden = join(GOLDEN, "dictionary_learning", "AutoEncoder", "trainer_0");
    const { hook } = await openSae(changed(golden, "config.json", { buffer: { io: "in" } }));
    expect(hook).toMatchObject({ tappable: false, reason: expect.stringMatching(/reads "in" of resid_post_layer_1/) });
  });
});

describe("a hook that cannot be tapped is named, with the reason", () => {
  const hookOf = async (metadata: Readonly<Record<string, unknown>>) =>
    (await openSae(saelens("standard-none", { metadata }))).hook;

  it.each([
    [{ hook_name: "blocks.1.ln2.hook_normalized" }, "blocks.1.ln2.hook_normalized", /cannot be attached/],
    [{ hook_name: "blocks.01.hook_resid_post" }, "blocks.01.hook_resid_post", /cannot be attached/],
    [{ hook_name: "blocks.1.hook_resid_post", hook_head_index: 3 }, "blocks.1.hook_resid_post", /reads head 3/],
    [{}, null, /does not say which hook/],
  ])("%o", async (metadata, name, reason) => {
    expect(await hookOf(metadata)).toEqual({ tappable: false, name, reason: expect.stringMatching(reason) });
  });

  it("every place in the residual stream can be", async () => {
    for (const kind of ["hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post"])
      expect(await hookOf({ hook_name: `blocks.12.${kind}` })).toMatchObject({
        tappable: true,
        name: `blocks.12.${kind}`,
      });
  });

  it("a module's own output is marked as that", async () => {
    for (const [module, name] of [
      ["layers.7.mlp", "hook_mlp_out"],
      ["h.7.attn", "hook_attn_out"],
    ] as const) {
      const folder = join(temporaryFolder(), module);
      cpSync(join(GOLDEN, "sparsify", "topk", "layers.1"), folder, { recursive: true });
      expect((await openSae(folder)).hook).toEqual({ tappable: true, name: `blocks.7.${name}`, ownOutput: true });
    }
  });
});
