import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { AskedPrecision } from "../../../models/weights/block-format.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { compareLogits } from "../../logit-difference.js";
import { expectedOf, goldenGguf } from "../../models/gguf/golden-gguf.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const VOCAB = 320;

async function logits(name: string, precision: AskedPrecision, phase: "prefill" | "decode") {
  const model = await compileModel({ path: goldenGguf(`${name}.gguf`), precision, cacheRoot });
  using expected = expectedOf(name);
  const ids = expected.ids();
  using runner = new Runner(model, { window: 64, threads: 1 });
  const cache = runner.openCache({ window: 64, sinks: 2 });
  const row = cache.allocate();
  const found =
    phase === "prefill"
      ? runner.prefill(cache, row, ids, [...ids.keys()])
      : Float32Array.from(ids.flatMap((id) => [...runner.decode(cache, row, [id])]));
  runner.closeCache(cache);
  return { precision: model.precision, ...compareLogits(found, expected.values("logits"), VOCAB) };
}

/** The bounds of the golden's README for activations rounded to 8 bits, the weights being the file's own. */
describe.each([
  ["llama-tiny", "q8-block"],
  ["llama-tiny-q4_1", "q4"],
  ["llama-tiny-llama3", "q4"],
] as const)("%s in its own blocks", (name, own) => {
  it.each(["auto", "q8-block", "q4"] as const)("as %s, prefilled and token by token", async (precision) => {
    for (const phase of ["prefill", "decode"] as const) {
      const found = await logits(name, precision, phase);
      expect(found.precision).toBe(precision === "auto" ? own : precision);
      expect(found.rms).toBeLessThanOrEqual(0.3);
      expect(found.largest).toBeLessThanOrEqual(2);
      expect(found.overturned).toBeLessThanOrEqual(0.8);
      // That weights were not rounded once more shows in how small this is.
      expect(found.rms).toBeGreaterThan(0.01);
    }
  });
});

it("a file of 16-bit numbers has no blocks: auto is f32, and exact", async () => {
  const found = await logits("llama-tiny-f16", "auto", "prefill");
  expect(found.precision).toBe("f32");
  expect(found.largest).toBeLessThan(3e-4);
});

it("4 bits of our own are worse than the file's 16, and still the same model", async () => {
  const eight = await logits("llama-tiny-f16", "q8", "prefill");
  const four = await logits("llama-tiny-f16", "q4", "prefill");
  expect(eight.rms).toBeLessThan(0.3);
  expect(four.rms).toBeGreaterThan(eight.rms);
  expect(four.rms).toBeLessThan(1.5);
});
