import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { goldenFolder } from "../../golden-tensors.js";
import { overflowing } from "../../models/overflowing-model.js";
import { IDS } from "./text-schedule.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));

const open = async (path: string): Promise<Runner> =>
  new Runner(await compileModel({ path, precision: "f32", cacheRoot }), { window: 64, threads: 1 });

describe("first chunks that run together", () => {
  const lengths = [5, 1, 24, 3, 17];

  it("give each row what its chunk gives alone: logits, taps, and the text that follows", async () => {
    const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
    using runner = new Runner(model, { window: 64, threads: 1, taps: new Set(model.hooks) });
    const chunksFrom = (first: number) =>
      lengths.map((length, i) => {
        const ids = IDS.slice(i, i + length);
        const residuals: Residuals | undefined = i % 2 === 0 ? new Map() : undefined;
        // Rows in any order; all logits, some, or none.
        return {
          row: first + ((i * 2) % lengths.length),
          ids,
          wanted: [...ids.keys()].slice(i % 3),
          ...(residuals && { residuals }),
        };
      });
    const cache = runner.openCache({ window: 64, sinks: 4 });
    for (const _ of [...lengths, ...lengths]) cache.allocate(30);
    const [single, joined] = [chunksFrom(0), chunksFrom(lengths.length)];
    const want = single.map(({ row, ids, wanted, ...options }) => runner.prefill(cache, row, ids, wanted, options));
    expect(runner.prefillTogether(cache, joined)).toEqual(want);
    expect(joined.map(({ residuals }) => residuals)).toEqual(single.map(({ residuals }) => residuals));
    const half = lengths.length * model.shape.vocabSize;
    for (let step = 0; step < 40; step++) {
      const logits = runner.decode(
        cache,
        0,
        [...lengths, ...lengths].map((_, i) => IDS[step + (i % 5)] ?? 0),
      );
      expect(logits.slice(half)).toEqual(logits.slice(0, half));
    }
    runner.closeCache(cache);
  });

  it("that are not numbers leave their neighbours alone", async () => {
    using runner = await open(overflowing(folder, "architectures/gemma2", "model.embed_tokens.weight"));
    const cache = runner.openCache({ window: 64, sinks: 4 });
    for (let row = 0; row < 5; row++) cache.allocate();
    const [long, short] = [IDS.slice(0, 7), IDS.slice(3, 5)];
    const want = [runner.prefill(cache, 0, long, [6]), runner.prefill(cache, 1, short, [0, 1])];
    const [bad, ...good] = runner.prefillTogether(cache, [
      { row: 2, ids: [4, 0, 5, 6], wanted: [3] },
      { row: 3, ids: long, wanted: [6] },
      { row: 4, ids: short, wanted: [0, 1] },
    ]);
    expect(bad?.every(Number.isNaN)).toBe(true);
    expect(good).toEqual(want);
    runner.closeCache(cache);
  });

  it("are refused where they are not first, come twice or are longer than their row's window", async () => {
    using runner = await open(goldenFolder("lm-infinite"));
    const cache = runner.openCache({ window: 32, sinks: 4 });
    for (let row = 0; row < 3; row++) cache.allocate(row === 2 ? 8 : 32);
    runner.prefill(cache, 0, [1]);
    const run = (...chunks: readonly (readonly [row: number, length: number])[]) =>
      runner.prefillTogether(
        cache,
        chunks.map(([row, length]) => ({ row, ids: IDS.slice(0, length), wanted: [] })),
      );
    expect(() => run([0, 2], [1, 2])).toThrow("only the first chunks of rows run together");
    expect(() => run([1, 2], [1, 2])).toThrow("a row has one first chunk");
    expect(() => run([1, 2], [2, 9])).toThrow("9 tokens is longer than the window");
    expect(() => run([1, 2], [3, 2])).toThrow("row 3 is not in use");
    expect([0, 1, 2].map((row) => cache.count(row))).toEqual([1, 0, 0]);
    expect(run()).toEqual([]);
    runner.closeCache(cache);
  });
});
