import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { inspectModel } from "../../../models/inspect.js";
import { forIgnoredMean } from "../../../models/sae/centring.js";
import { compileSae } from "../../../models/sae/compile-sae.js";
import { featureTerms } from "../../../models/sae/edit-terms.js";
import { openSae } from "../../../models/sae/formats/index.js";
import { SetupError } from "../../../runtime/contract/errors.js";
import { SaeDeviceReader } from "../../../runtime/saes/sae-device-reader.js";
import { SaeReader } from "../../../runtime/saes/sae-reader.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";
import { randomWeights, writeRandomLlama } from "../../models/random-model.js";
import { writeF32 } from "../../models/sae/golden-sae.js";
import { rowEncoder } from "../../models/sae/reference/encode.js";
import { readFeatures } from "../../models/sae/reference/features.js";
import { ofKind } from "../engine/requests.js";
import { run, smallEngines } from "../engine/small-engine.js";
import { readAll } from "./read-all.js";
import { expectSame } from "./same-reading.js";

const { cacheDir, startEngine } = smallEngines();

// SAEs that were trained on a model whose weights had no mean (center_writing_weights).

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));

const [D, FEATURES] = [32, 16];
const CENTRED = { model_from_pretrained_kwargs: { center_writing_weights: true } };

/** Without its mean. */
function centred(values: Float32Array): Float32Array {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.map((value) => value - mean);
}

/** An SAE of relus on the residual stream before layer 1; a decoder bias makes it matter what its input is. */
function writeSae(name: string, metadata: object, cfg: object = {}): string {
  const to = join(folder, name);
  mkdirSync(to);
  const about = { hook_name: "blocks.1.hook_resid_pre", ...metadata };
  const config = { architecture: "standard", d_in: D, d_sae: FEATURES, metadata: about, ...cfg };
  writeFileSync(join(to, "cfg.json"), JSON.stringify(config));
  writeF32(join(to, "sae_weights.safetensors"), {
    W_enc: [[D, FEATURES], randomWeights(D * FEATURES, 1).map((value) => value + 0.3)],
    W_dec: [[FEATURES, D], randomWeights(D * FEATURES, 2).map((value) => value + 0.3)],
    b_enc: [[FEATURES], randomWeights(FEATURES, 3)],
    b_dec: [[D], randomWeights(D, 4).map((value) => value + 0.5)],
  });
  return to;
}

const PLAIN = writeSae("plain", {});
const ON_CENTRED = writeSae("centred", CENTRED);

describe("read by hand, an SAE of a centred model", () => {
  const x = randomWeights(D, 5).map((value) => value + 2);

  it("has the features that the same weights have of the stream less its mean, and the same error", async () => {
    const [plain, sae] = [await openSae(PLAIN), forIgnoredMean(await openSae(ON_CENTRED))];
    const [want] = readFeatures(plain, centred(x));
    const [got] = readFeatures(sae, x);
    expect(got?.indices).toEqual(want?.indices);
    expect(maxDifference(got?.values ?? [], want?.values ?? [1])).toBeLessThan(1e-5);
    for (const scalar of ["z", "f", "mse"] as const) expect(got?.[scalar]).toBeCloseTo(want?.[scalar] ?? 0, 5);
    expect(readFeatures(plain, x)[0]?.z).not.toBeCloseTo(want?.z ?? 0, 1);
  });

  it.each([SaeReader, SaeDeviceReader])("is read by graphs as by hand: %o", async (Reader) => {
    const options = { folder: ON_CENTRED, precision: "f32", cacheRoot: cacheDir } as const;
    using reader = new Reader(await compileSae({ ...options, ignoresMean: true }), { threads: 1 });
    const [want] = readFeatures(forIgnoredMean(await openSae(ON_CENTRED)), x);
    const [got] = readAll(reader, x, { kind: "native" }, FEATURES);
    if (got && want) expectSame(got, want, x, 1e-5);
    using plain = new Reader(await compileSae(options), { threads: 1 });
    expect(readAll(plain, x, { kind: "native" }, FEATURES)[0]?.z).not.toBeCloseTo(want?.z ?? 0, 1);
  });

  it("has its features edited as it reads them", async () => {
    const sae = forIgnoredMean(await openSae(ON_CENTRED));
    const { activations } = rowEncoder(sae, { kind: "native" })(x);
    for (let feature = 0; feature < FEATURES; feature++) {
      const column = Float32Array.from({ length: D }, (_, i) => sae.wEnc[i * FEATURES + feature] ?? 0);
      const { encoder, bias } = featureTerms(sae, feature, column);
      const pre = x.reduce((sum, value, i) => sum + value * (encoder[i] ?? 0), bias);
      expect(Math.max(pre, 0)).toBeCloseTo(activations[feature] ?? 0, 4);
    }
  });

  it("is as it is where layer_norm takes the mean off anyway, and refused where a length is also made constant", async () => {
    const normed = await openSae(writeSae("normed", CENTRED, { normalize_activations: "layer_norm" }));
    expect(forIgnoredMean(normed)).toBe(normed);
    const rescaled = await openSae(writeSae("rescaled", CENTRED, { normalize_activations: "constant_norm_rescale" }));
    expect(() => forIgnoredMean(rescaled)).toThrow(/center_writing_weights.*constant_norm_rescale/);
  });
});

describe("attached, an SAE of a centred model", () => {
  const prompt = [3, 17, 8, 40, 25];
  const saes = [
    { id: "plain", folder: PLAIN },
    { id: "centred", folder: ON_CENTRED },
  ];

  /** Readings of both SAEs, token by token, and how their inputs are normalised. */
  async function readings(model: string) {
    const engine = await startEngine({ model, saes, window: 32, sinks: 2 });
    const asked = { saes: ["plain", "centred"], top: FEATURES, activation: { kind: "native" }, prompt: true } as const;
    const events = await run(engine, { prompt, maxTokens: 0, features: asked });
    const all = ofKind(events, "features").flatMap((event) => event.readings);
    return { all, normalisations: engine.card.saes.map(({ normalisation }) => normalisation) };
  }

  it("reads GPT-2's stream less its mean", async () => {
    const { all, normalisations } = await readings(goldenFolder("architectures/gpt2"));
    expect(normalisations).toEqual(["none", "centre"]);
    expect(all).toHaveLength(prompt.length);
    for (const [plain, own] of all) expect(own?.z).not.toBeCloseTo(plain?.z ?? 0, 2);
  });

  it("reads Falcon 7B's, whose blocks run side by side, too", async () => {
    expect((await readings(goldenFolder("architectures/falcon_mqa"))).normalisations).toEqual(["none", "centre"]);
  });

  it("reads the stream as it is where norms keep the mean: there is nothing to centre", async () => {
    const model = join(folder, "llama");
    writeRandomLlama(model, { layers: 2, hidden: D, heads: 4, kvHeads: 2, headDim: 8, intermediate: 48, vocab: 64 });
    const { all, normalisations } = await readings(model);
    expect(normalisations).toEqual(["none", "none"]);
    for (const [plain, own] of all) expect(own).toMatchObject({ z: plain?.z, l0: plain?.l0, mse: plain?.mse });
  });

  it("is refused by BLOOM, whose stream would be another", async () => {
    const refused = readings(goldenFolder("architectures/bloom"));
    await expect(refused).rejects.toThrow(SetupError);
    const reason = /center_writing_weights, which makes another residual stream of a bloom/;
    await expect(refused).rejects.toThrow(reason);
    const options = { precision: "f32", largestWindow: 64, sinks: 2, quick: true, saes: [ON_CENTRED] } as const;
    const { checks } = await inspectModel({ ...options, path: goldenFolder("architectures/bloom") });
    expect(checks.filter(({ about }) => about === "SAE")).toEqual([
      { about: "SAE", verdict: "refused", finding: expect.stringMatching(reason) },
    ]);
  });
});
