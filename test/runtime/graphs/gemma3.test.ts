import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { expectedTensors, goldenFolder, goldenSequences, maxDifference } from "../../golden-tensors.js";
import { writeTensors } from "../../models/random-model.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));

const TEXT = "architectures/gemma3_text";

/** The golden text model as it stands in a Gemma 3 that sees, in the layout of google/gemma-3-4b-it. */
function writeSeeing(name: string, spelling: string): string {
  const to = join(folder, name);
  mkdirSync(to);
  const { bos_token_id, eos_token_id, ...text_config } = Object(
    JSON.parse(readFileSync(join(goldenFolder(TEXT), spelling), "utf8")),
  );
  const config = { model_type: "gemma3", eos_token_id: [1, 106], text_config, vision_config: {} };
  writeFileSync(join(to, "config.json"), JSON.stringify(config));
  using file = openSafetensors(join(goldenFolder(TEXT), "model.safetensors"));
  const tensors = [...file.tensors].map(([tensor, { shape }]) => ({
    name: `language_model.${tensor}`,
    shape,
    values: file.readF32(tensor),
  }));
  const eyes = { name: "vision_tower.vision_model.embeddings.weight", shape: [2], values: new Float32Array(2) };
  writeTensors(join(to, "model.safetensors"), [...tensors, eyes]);
  return to;
}

describe("a Gemma 3 that sees", () => {
  it.each(["config.json", "config-v4.json"])("is read as its text model, from %s", async (spelling) => {
    const path = writeSeeing(spelling, spelling);
    const model = await compileModel({ path, precision: "f32", cacheRoot: folder });
    expect(model.shape).toMatchObject({ bosTokenId: 2, eosTokenIds: [1, 106], layers: 3 });
    using runner = new Runner(model, { window: 64, threads: 1 });
    const [ids = []] = goldenSequences(TEXT);
    const cache = runner.openCache({ window: 64, sinks: 2 });
    const logits = runner.prefill(cache, cache.allocate(), ids, [...ids.keys()]);
    expect(maxDifference(logits, expectedTensors(TEXT).get("seq0.logits")?.values ?? [])).toBeLessThan(2e-4);
    runner.closeCache(cache);
  });
});
