import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { openCheckpoint } from "../../../models/weights/checkpoint.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";
import { randomWeights } from "../../models/random-model.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

it.each([
  { name: "llama", gain: "model.norm", head: "lm_head", centres: false },
  { name: "llama3", gain: "model.norm", head: "model.embed_tokens", centres: false },
  { name: "gpt2", gain: "transformer.ln_f", head: "transformer.wte", centres: true },
  { name: "gptj", gain: "transformer.ln_f", head: "lm_head", centres: true },
  { name: "gpt_neox", gain: "gpt_neox.final_layer_norm", head: "embed_out", centres: true },
  { name: "mpt", gain: "transformer.norm_f", head: "transformer.wte", centres: true },
])("a direction's logits in $name go through its last norm's gain", async ({ name, gain, head, centres }) => {
  const path = goldenFolder(`architectures/${name}`);
  using checkpoint = openCheckpoint(path);
  const [gains, matrix] = [checkpoint.readF32(`${gain}.weight`), checkpoint.readF32(`${head}.weight`)];
  const direction = randomWeights(gains.length, 3).map((value) => value + 0.5);
  const mean = centres ? direction.reduce((sum, value) => sum + value, 0) / direction.length : 0;
  const want = Array.from({ length: matrix.length / gains.length }, (_, token) =>
    gains.reduce((sum, g, i) => sum + g * ((direction[i] ?? 0) - mean) * (matrix[token * gains.length + i] ?? 0), 0),
  );
  using runner = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), { window: 64, threads: 1 });
  expect(maxDifference(runner.lens(direction), want)).toBeLessThan(2e-4);
});
