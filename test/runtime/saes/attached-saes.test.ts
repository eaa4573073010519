import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { SetupError } from "../../../runtime/contract/errors.js";
import type { FeatureRequest } from "../../../runtime/contract/features.js";
import { goldenFolder } from "../../golden-tensors.js";
import { writeRandomLlama } from "../../models/random-model.js";
import { ofKind } from "../engine/requests.js";
import { run, smallEngines } from "../engine/small-engine.js";

const { startEngine } = smallEngines();

const EMBEDDED = join("models", "default");
const SAE = join(EMBEDDED, "saes", "blocks.3.hook_resid_post");
const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A copy of an embedded SAE whose cfg.json is changed. */
function changed(name: string, change: (cfg: Record<string, unknown>) => object): string {
  const to = join(folder, name);
  mkdirSync(to, { recursive: true });
  cpSync(SAE, to, { recursive: true });
  const cfg: Record<string, unknown> = JSON.parse(readFileSync(join(SAE, "cfg.json"), "utf8"));
  writeFileSync(join(to, "cfg.json"), JSON.stringify({ ...cfg, ...change(cfg) }));
  return to;
}

const metadata = (cfg: Record<string, unknown>, change: object) => ({
  metadata: { ...Object(cfg.metadata), ...change },
});

const features = (...saes: string[]): FeatureRequest => ({
  saes,
  top: 3,
  activation: { kind: "native" },
  prompt: true,
});

describe("SAEs are attached", () => {
  it("from the folder saes of the model, under the names of their folders, and can be left out", async () => {
    const engine = await startEngine({ model: EMBEDDED });
    const folders = [1, 3, 5].flatMap((layer) => ["", ".sparse"].map((suffix) => ({ layer, suffix })));
    expect(engine.card.saes).toMatchObject(
      folders.map(({ layer, suffix }) => ({
        id: `blocks.${layer}.hook_resid_post${suffix}`,
        hook: `blocks.${layer}.hook_resid_post`,
        format: "saelens",
        activation: suffix === "" ? "top-afa" : "jumprelu",
        k: null,
        normalisation: "layer_norm",
        dIn: 192,
        dSae: 1024,
        precision: "f32",
        modelName: "default",
      })),
    );
    expect(engine.card.hooks).toContain("blocks.0.hook_resid_mid");
    const bare = await startEngine({ model: EMBEDDED, saes: [] });
    expect(bare.card.saes).toEqual([]);
    expect(bare.card.hooks).toEqual(engine.card.hooks);
  });

  it("several at one hook under names of their own, in 8 bit, and at every kind of hook", async () => {
    const at = (hook: string) => changed(hook, (cfg) => metadata(cfg, { hook_name: hook }));
    const hooks = [
      "blocks.0.hook_resid_pre",
      "blocks.2.hook_attn_out",
      "blocks.2.hook_resid_mid",
      "blocks.4.hook_mlp_out",
    ];
    const saes = [{ folder: SAE }, { id: "again", folder: SAE }, ...hooks.map((hook) => ({ folder: at(hook) }))];
    const engine = await startEngine({ model: EMBEDDED, saes, saePrecision: "q8" });
    const ids = ["blocks.3.hook_resid_post", "again", ...hooks];
    expect(engine.card.saes.map(({ id, precision }) => [id, precision])).toEqual(ids.map((id) => [id, "q8"]));
    const events = await run(engine, { prompt: [0, 5, 9, 12], maxTokens: 2, features: features(...ids) });
    const readings = ofKind(events, "features").flatMap((event) => event.readings);
    expect(readings).toHaveLength(4);
    for (const [first, again, ...others] of readings) {
      expect({ ...again, sae: first?.sae }).toEqual(first);
      expect(new Set(others.map(({ z }) => z)).size).toBe(4);
    }
  });

  it("of other formats and activations, all at once", async () => {
    const model = join(folder, "d32");
    writeRandomLlama(model, { layers: 8, hidden: 32, heads: 4, kvHeads: 2, headDim: 8, intermediate: 48, vocab: 64 });
    const folders = [
      "saelens/standard-none",
      "saelens/gated-layer_norm",
      "saelens/jumprelu-constant_norm_rescale-no-b_dec-input",
      "saelens/topk-rescale",
      "saelens/old-flat-topk",
      "sparsify/topk/layers.1",
      "sparsify/groupmax/layers.1",
      "dictionary_learning/BatchTopKSAE/trainer_0",
      "dictionary_learning/GatedAutoEncoder/trainer_0",
    ].map((name) => goldenFolder(`sae/${name}`));
    const inPath = "layer_1/width_128/average_l0_40"; // Gemma Scope's files say where they belong by their path alone
    const scope = join(folder, "gemma-scope-2b-pt-res", inPath);
    cpSync(goldenFolder(`sae/gemma-scope/plain/${inPath}`), scope, { recursive: true });
    const saes = [...folders, scope].map((each, i) => ({ id: `s${i}`, folder: each }));
    const engine = await startEngine({ model, saes, saeAnyModel: true, window: 16 });
    const ids = saes.map(({ id }) => id);
    const events = await run(engine, { prompt: [1, 2, 3], maxTokens: 3, features: features(...ids) });
    for (const { features: readings } of ofKind(events, "token")) {
      expect(readings?.map(({ sae }) => sae)).toEqual(ids);
      expect(readings?.every(({ z, mse }) => z > 0 && mse > 0)).toBe(true);
    }
  });
});

describe("an SAE that does not fit is refused with a sentence, before the server listens", () => {
  const attach = (...saes: { id?: string; folder: string }[]) =>
    startEngine({ model: EMBEDDED, saes }).then(
      () => "attached",
      (error: unknown) => error,
    );

  it.each<[string, () => string, RegExp]>([
    ["of another width", () => goldenFolder("sae/saelens/standard-none"), /reads 32 numbers, .* has 192/],
    [
      "of another model",
      () => changed("other", (cfg) => metadata(cfg, { model_name: "gpt2-small" })),
      /trained on gpt2-small.*--sae-any-model/,
    ],
    [
      "of a layer that is not there",
      () => changed("layer", (cfg) => metadata(cfg, { hook_name: "blocks.6.hook_resid_post" })),
      /no blocks\.6\.hook_resid_post .*6 layers/,
    ],
    [
      "of a hook that is not tapped",
      () => goldenFolder("sae/saelens/standard-hook_z"),
      /SAEs cannot be attached at .*hook_z/,
    ],
    ["a transcoder", () => goldenFolder("sae/saelens/transcoder"), /transcoder: it reads/],
  ])("%s", async (_, sae, message) => {
    const error = await attach({ folder: sae() });
    expect(error).toBeInstanceOf(SetupError);
    expect(String(error)).toMatch(message);
  });

  it("trained on a module's own output, where the model adds another: to Gemma 2, not to Llama", async () => {
    const own = join(folder, "own", "layers.1.mlp"); // sparsify names a folder after the module whose output it reads
    cpSync(goldenFolder("sae/sparsify/topk/layers.1"), own, { recursive: true });
    const gemma = startEngine({ model: goldenFolder("architectures/gemma2"), saes: [{ folder: own }] });
    await expect(gemma).rejects.toThrow(SetupError);
    await expect(gemma).rejects.toThrow(
      /gemma2 normalises that before it is added, and blocks\.1\.hook_mlp_out is what/,
    );
    const model = join(folder, "llama32");
    writeRandomLlama(model, { layers: 2, hidden: 32, heads: 4, kvHeads: 2, headDim: 8, intermediate: 48, vocab: 64 });
    const engine = await startEngine({ model, saes: [{ folder: own }], saeAnyModel: true, window: 16 });
    expect(engine.card.saes).toMatchObject([{ hook: "blocks.1.hook_mlp_out" }]);
  });

  it("of a name that is taken", async () => {
    expect(String(await attach({ folder: SAE }, { folder: SAE }))).toMatch(
      /both called blocks\.3.*--sae <name>=<folder>/,
    );
  });

  it("that is not there, or whose file is broken", async () => {
    expect(String(await attach({ folder: join(folder, "nowhere") }))).toMatch(/there is no such folder/);
    const broken = changed("broken", () => ({}));
    writeFileSync(join(broken, "sae_weights.safetensors"), "no weights");
    expect(await attach({ folder: broken })).toBeInstanceOf(ModelFormatError);
  });
});
