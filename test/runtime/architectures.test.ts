import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../models/compile.js";
import { Runner } from "../../runtime/runner.js";
import { expectedTensors, goldenFolder, goldenSequences, maxDifference } from "../golden-tensors.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const MODELS: Record<string, string> = {
  llama: "llama",
  llama3: "llama3",
  llama_yarn: "llama_yarn",
  llama_bias: "llama_bias",
  llama_bf16: "llama_bf16",
  llama_sharded: "llama",
};

describe.each(Object.entries(MODELS))("%s, logits of transformers", (name, expectedFrom) => {
  it("prefilled and token by token", async () => {
    const folder = goldenFolder(`architectures/${name}`);
    const expected = expectedTensors(`architectures/${expectedFrom}`);
    using runner = new Runner(await compileModel({ path: folder, precision: "f32", cacheRoot }), {
      window: 64,
      threads: 1,
    });
    for (const [i, ids] of goldenSequences(`architectures/${name}`).entries()) {
      const want = expected.get(`seq${i}.logits`)?.values ?? [];
      const cache = runner.openCache({ window: 64, sinks: 2 });
      expect(maxDifference(runner.prefill(cache, cache.allocate(), ids, [...ids.keys()]), want)).toBeLessThan(2e-4);
      const row = cache.allocate();
      const decoded = ids.flatMap((id) => [...runner.decode(cache, row, [id])]);
      expect(maxDifference(decoded, want)).toBeLessThan(2e-4);
      runner.closeCache(cache);
    }
  });
});
