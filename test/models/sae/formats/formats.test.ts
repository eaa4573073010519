import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { rowNorms } from "../../../../models/sae/folding.js";
import { openSae } from "../../../../models/sae/formats/index.js";
import type { SaeDescription } from "../../../../models/sae/sae.js";
import { maxDifference } from "../../../golden-tensors.js";
import { temporaryFolder } from "../../weights/write-safetensors.js";
import { expected, GOLDEN, goldenSaes, writeF32 } from "../golden-sae.js";
import { decode } from "../reference/decode.js";
import { encode } from "../reference/encode.js";
import { readFeatures } from "../reference/features.js";

const TOLERANCE = 1e-4;
const UNREADABLE = ["AutoEncoder-legacy-file"];

const folders = ["saelens", "sparsify", "dictionary_learning", "gemma-scope"]
  .flatMap((format) => goldenSaes(join(GOLDEN, format)))
  .filter((folder) => !UNREADABLE.some((name) => folder.includes(name)));

/** Largest differences of activations and reconstruction to the golden tensors with this ending. */
function differences(sae: SaeDescription, folder: string, ending = "") {
  const x = expected(folder, "x");
  const activations = encode(sae, x);
  return {
    activations: maxDifference(activations, expected(folder, `feature_acts${ending}`)),
    reconstruction: maxDifference(decode(sae, activations, x), expected(folder, `recon${ending}`)),
  };
}

describe("an SAE computes what its own library computes from the same files", () => {
  it("finds all of them", () => expect(folders).toHaveLength(43));

  it.each(folders)("%s", async (folder) => {
    const sae = await openSae(folder);
    const found = differences(sae, folder, folder.endsWith("standard-bfloat16") ? "_float32" : "");
    expect(found.activations).toBeLessThan(TOLERANCE);
    expect(found.reconstruction).toBeLessThan(TOLERANCE);
  });

  it("scales inputs by the factor that a training checkpoint keeps in a file of its own", async () => {
    const golden = join(GOLDEN, "saelens", "standard-expected_average_only_in");
    const folder = temporaryFolder();
    cpSync(golden, folder, { recursive: true });
    writeFileSync(join(folder, "activation_scaler.json"), JSON.stringify({ scaling_factor: 0.7 }));
    const found = differences(await openSae(folder), golden, "_folded_0.7");
    expect(found.activations).toBeLessThan(TOLERANCE);
    expect(found.reconstruction).toBeLessThan(TOLERANCE);
  });

  it("keeps the scale of a dictionary_learning AutoEncoder; times the decoder's norms it is that of from_pretrained", async () => {
    const folder = join(GOLDEN, "dictionary_learning", "AutoEncoder", "trainer_0");
    const sae = await openSae(folder);
    const norms = rowNorms(sae.wDec, sae.dSae);
    const scaled = encode(sae, expected(folder, "x")).map((value, i) => value * (norms[i % sae.dSae] ?? 0));
    expect(maxDifference(scaled, expected(folder, "feature_acts_normalized_decoder"))).toBeLessThan(TOLERANCE);
  });

  it("reads a batch-top-k SAE as training saves it: norms not folded, one threshold", async () => {
    const golden = join(GOLDEN, "saelens", "batchtopk-saved-by-training-class");
    const published = await openSae(golden);
    if (published.activation.kind !== "jumprelu") throw new Error("a batch-top-k SAE is published as jumprelu");
    const norm = (feature: number) => 1 + (feature % 5) / 4;
    const config = { ...JSON.parse(readFileSync(join(golden, "cfg.json"), "utf8")), architecture: "batchtopk" };
    const folder = temporaryFolder();
    writeFileSync(join(folder, "cfg.json"), JSON.stringify({ ...config, rescale_acts_by_decoder_norm: true }));
    writeF32(join(folder, "sae_weights.safetensors"), {
      W_enc: [[32, 128], published.wEnc.map((value, i) => value / norm(i % 128))],
      b_enc: [[128], (published.bEnc ?? new Float32Array()).map((value, feature) => value / norm(feature))],
      W_dec: [[128, 32], published.wDec.map((value, i) => value * norm(Math.floor(i / 32)))],
      b_dec: [[32], published.bDec],
      topk_threshold: [[], published.activation.threshold.slice(0, 1)],
    });
    const found = differences(await openSae(folder), golden);
    expect(found.activations).toBeLessThan(TOLERANCE);
    expect(found.reconstruction).toBeLessThan(TOLERANCE);
  });
});

describe("the mean square error of a reading", () => {
  it.each(["standard-layer_norm", "gated-none", "topk-rescale"])("is that of the reconstruction (%s)", async (name) => {
    const folder = join(GOLDEN, "saelens", name);
    const sae = await openSae(folder);
    const x = expected(folder, "x");
    const recon = expected(folder, "recon");
    for (const [row, { mse }] of readFeatures(sae, x).entries()) {
      const errors = Array.from({ length: 32 }, (_, i) => (x[32 * row + i]! - recon[32 * row + i]!) ** 2);
      expect(mse).toBeCloseTo(errors.reduce((sum, value) => sum + value, 0) / 32, 3);
    }
  });

  it("is not given for a transcoder, which does not reconstruct its input", async () => {
    const folder = join(GOLDEN, "saelens", "transcoder");
    expect(readFeatures(await openSae(folder), expected(folder, "x"))[0]?.mse).toBeNull();
  });
});

describe("what an SAE says of itself", () => {
  const about = async (...path: string[]) => openSae(join(GOLDEN, ...path));

  it("is its size, its model and its hook", async () => {
    const sae = await about("saelens", "topk");
    expect(sae).toMatchObject({ dIn: 32, dSae: 128, dOut: 32, modelName: "tiny", format: "saelens" });
    expect(sae.hook).toEqual({ tappable: true, name: "blocks.1.hook_resid_post", ownOutput: false });
    expect((await about("saelens", "old-flat-standard")).hook).toMatchObject({ name: "blocks.1.hook_resid_pre" });
  });

  it("names the hook that cannot be tapped", async () => {
    for (const name of ["standard-hook_z", "old-flat-hook_point-hook_z"])
      expect((await about("saelens", name)).hook).toMatchObject({ tappable: false, name: "blocks.1.attn.hook_z" });
    const transcoder = await about("saelens", "jumprelu_skip_transcoder");
    expect(transcoder).toMatchObject({ kind: "transcoder", dOut: 24, subtractsBDec: false });
    expect(transcoder.hook).toMatchObject({ tappable: false, name: "blocks.1.hook_resid_post" });
    const { hook, subtractsBDec } = await about("sparsify", "transcoder-skip", "layers.1.mlp");
    expect(subtractsBDec).toBe(false);
    expect(hook).toMatchObject({ tappable: false, name: "the input of layers.1.mlp" });
  });

  it("takes the hook from the name of a module, a submodule or a path where the format has it there", async () => {
    const residual = { tappable: true, name: "blocks.1.hook_resid_post" };
    expect((await about("sparsify", "topk", "layers.1")).hook).toMatchObject(residual);
    expect((await about("dictionary_learning", "AutoEncoder", "trainer_0")).hook).toMatchObject(residual);
    const anonymous = join(GOLDEN, "gemma-scope", "plain", "layer_1", "width_128", "average_l0_40");
    expect((await openSae(anonymous)).hook).toMatchObject({ tappable: false, name: null });
    const sites = {
      "gemma-scope-2b-pt-res": residual,
      "gemma-scope-2b-pt-mlp": { tappable: true, name: "blocks.1.hook_mlp_out" },
      "gemma-scope-2b-pt-att": { tappable: false, name: "blocks.1.attn.hook_z" },
    };
    for (const [repository, hook] of Object.entries(sites)) {
      const folder = join(temporaryFolder(), repository, "layer_1", basename(anonymous));
      cpSync(anonymous, folder, { recursive: true });
      expect(await openSae(folder)).toMatchObject({ hook, modelName: "google/gemma-2-2b" });
    }
  });
});
