import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import {
  expectedTensors,
  goldenArchitectures,
  goldenFolder,
  goldenSequences,
  maxDifference,
} from "../../golden-tensors.js";
import { pieceEnds } from "../../text-pieces.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const logitsOf = (runner: Runner, ids: readonly number[], chunks: readonly number[]) => {
  const cache = runner.openCache({ window: 64, sinks: 2 });
  const row = cache.allocate();
  const logits: number[] = [];
  for (const [i, end] of chunks.entries()) {
    const tokens = ids.slice(chunks[i - 1] ?? 0, end);
    const chunk =
      tokens.length === 1 ? runner.decode(cache, row, tokens) : runner.prefill(cache, row, tokens, [...tokens.keys()]);
    for (const value of chunk) logits.push(value);
  }
  runner.closeCache(cache);
  return logits;
};

describe.each(goldenArchitectures())("$name, logits of transformers", ({ name, expectedFrom }) => {
  it("prefilled, in chunks, token by token, and mixed", async () => {
    const path = goldenFolder(`architectures/${name}`);
    const expected = expectedTensors(`architectures/${expectedFrom}`);
    using runner = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), { window: 64, threads: 1 });
    for (const [i, ids] of goldenSequences(`architectures/${name}`).entries()) {
      const want = expected.get(`seq${i}.logits`)?.values ?? [];
      const ways = {
        whole: pieceEnds(ids.length, 64),
        chunks: pieceEnds(ids.length, 7),
        single: pieceEnds(ids.length, 1),
      };
      for (const [way, chunks] of Object.entries({ ...ways, mixed: pieceEnds(ids.length, 5, 10) }))
        expect(maxDifference(logitsOf(runner, ids, chunks), want), way).toBeLessThan(2e-4);
    }
  });
});
