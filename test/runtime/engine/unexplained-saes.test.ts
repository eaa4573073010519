import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { LocalEngine } from "../../../runtime/engine/engine.js";
import { goldenFolder } from "../../golden-tensors.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const EMBEDDED = join("models", "default");
const SAES = ["afa1", "afa3", "afa5", "relu", "topk", "jumprelu", "bad"];
/** The embedded model with all of these in its folder `saes`, three of which have one hook. */
const MODEL = join(folder, "default");

beforeAll(() => {
  for (const file of [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ])
    cpSync(join(EMBEDDED, file), join(MODEL, file));
  for (const sae of SAES)
    cpSync(join(goldenFolder("sae-eval"), "saes", sae), join(MODEL, "saes", sae), { recursive: true });
});
afterAll(() => rmSync(folder, { recursive: true }));

async function started(model: string, saes?: readonly { readonly id: string; readonly folder: string }[]) {
  const notices: string[] = [];
  const limits = { threads: 1, precision: "f32", parallel: 1, queueLimit: 8, stallTimeoutMs: 60_000 } as const;
  const options = { model, cacheDir: join(folder, "cache"), ...limits, ...(saes ? { saes } : {}) };
  const engine = await LocalEngine.start(options, undefined, (line) => notices.push(line));
  const { card } = engine;
  await engine.close();
  return { card, notices };
}

const BAD =
  /^The SAE bad leaves [23]\.\d\d of the variance at blocks\.3\.hook_resid_post unexplained.*normalisation \(layer_norm\).*hook.*activation \(relu\)/;

it("an SAE that explains less than the mean is told in the log, and what to look at; others are not", async () => {
  const { card, notices } = await started(MODEL);
  expect(notices).toEqual([expect.stringMatching(BAD)]);
  // SAEs of the folder saes are called as their folders, so that several of one hook are there.
  expect(card.saes.map(({ id, hook }) => [id, hook])).toEqual([
    ["afa1", "blocks.1.hook_resid_post"],
    ["afa3", "blocks.3.hook_resid_post"],
    ["afa5", "blocks.5.hook_resid_post"],
    ["bad", "blocks.3.hook_resid_post"],
    ["jumprelu", "blocks.1.hook_resid_post"],
    ["relu", "blocks.4.hook_resid_pre"],
    ["topk", "blocks.3.hook_resid_post"],
  ]);
});

it("the same is told again when it need not be measured, and of the same SAE under another name", async () => {
  const { notices } = await started(MODEL, [{ id: "worse", folder: join(MODEL, "saes", "bad") }]);
  expect(notices).toEqual([expect.stringContaining("The SAE worse leaves")]);
});

it("nothing is told of a model that has no tokenizer, and so no text", async () => {
  const bare = join(folder, "without-tokenizer", "default");
  for (const file of ["config.json", "generation_config.json", "model.safetensors"])
    cpSync(join(EMBEDDED, file), join(bare, file));
  const { card, notices } = await started(bare, [{ id: "bad", folder: join(MODEL, "saes", "bad") }]);
  expect(card.hasTokenizer).toBe(false);
  expect(notices).toEqual([]);
});
