import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../models/compile.js";
import type { Precision } from "../../models/weight-plan.js";
import { Runner } from "../../runtime/runner.js";
import {
  expectedTensors,
  goldenArchitectures,
  goldenFolder,
  goldenSequences,
  maxDifference,
} from "../golden-tensors.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

/** A runner of a golden model. */
async function runnerOf(name: string, precision: Precision = "f32"): Promise<Runner> {
  const path = goldenFolder(`architectures/${name}`);
  return new Runner(await compileModel({ path, precision, cacheRoot }), { window: 64, threads: 1 });
}

/** Logits of every token: prefilled in chunks of the given sizes, 1 being decoded, the last one again and again. */
function logits(runner: Runner, ids: readonly number[], chunks: readonly number[]): number[] {
  const cache = runner.openCache({ window: 64, sinks: 2 });
  const row = cache.allocate();
  const all: number[] = [];
  for (let start = 0, run = 0; start < ids.length; run++) {
    const size = chunks[Math.min(run, chunks.length - 1)] ?? 1;
    const tokens = ids.slice(start, start + size);
    all.push(
      ...(size === 1 ? runner.decode(cache, row, tokens) : runner.prefill(cache, row, tokens, [...tokens.keys()])),
    );
    start += size;
  }
  runner.closeCache(cache);
  return all;
}

describe.each(goldenArchitectures())("$name", ({ name, values }) => {
  it.each([
    ["prefilled", [64]],
    ["prefilled in chunks of 7", [7]],
    ["token by token", [1]],
    ["prefilled, decoded, prefilled again", [9, 1, 1, 1, 5]],
  ])("has the logits of transformers, %s", async (_, chunks) => {
    const expected = expectedTensors(`architectures/${values}`);
    using runner = await runnerOf(name);
    for (const [i, ids] of goldenSequences(`architectures/${name}`).entries()) {
      const want = expected.get(`seq${i}.logits`)?.values ?? [];
      expect(maxDifference(logits(runner, ids, chunks), want)).toBeLessThan(2e-4);
    }
  });

  it("has nearly the same logits in 8 bit", async () => {
    const expected = expectedTensors(`architectures/${values}`);
    using runner = await runnerOf(name, "q8");
    const [ids = []] = goldenSequences(`architectures/${name}`);
    const want = expected.get("seq0.logits")?.values ?? new Float32Array();
    for (const chunks of [[64], [1]]) {
      const got = logits(runner, ids, chunks);
      const errors = got.map((logit, i) => logit - (want[i] ?? 0));
      expect(rms(errors) / rms(want)).toBeLessThan(0.1); // 2 to 5 %; NaN is not less
    }
  });
});

const rms = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value ** 2, 0) / values.length);
