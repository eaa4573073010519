import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { AskedPrecision } from "../../../models/weights/block-format.js";
import type { Runner } from "../../../runtime/graphs/runner.js";
import { goldenFolder } from "../../golden-tensors.js";
import { overflowing } from "../../models/overflowing-model.js";
import { codedRunner, type KvBits } from "./coded-runner.js";
import { alone, IDS, type ScheduledText, steps, TEXTS, together } from "./text-schedule.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));

const open = async (
  path: string,
  precision: AskedPrecision = "f32",
  threads = 1,
  bits: KvBits = null,
): Promise<Runner> => (await codedRunner({ path, precision, cacheRoot }, bits, { window: 300, threads })).runner;

/** Logits behind each run of each text, bit by bit. */
function expectSame(got: readonly Float32Array[][], want: readonly Float32Array[][]): void {
  const bytes = (runs: readonly Float32Array[]) => Buffer.concat(runs.map(({ buffer }) => new Uint8Array(buffer)));
  for (const [text, runs] of want.entries()) {
    expect(got[text]).toHaveLength(runs.length);
    expect(bytes(got[text] ?? []).equals(bytes(runs)), `text ${text}`).toBe(true);
  }
}

/** As much of each text as the model has positions for. */
function fitting(runner: Runner): ScheduledText[] {
  return TEXTS.map(({ runs, ...text }) => {
    let left = runner.model.shape.learnedPositions ?? Number.POSITIVE_INFINITY;
    const fit = runs.map((length) => {
      const taken = Math.min(length, left);
      left -= taken;
      return taken;
    });
    return { ...text, runs: fit.filter((length) => length > 0) };
  });
}

describe("a text is bitwise the same alone and among texts of other windows and lengths that run or wait", () => {
  const cases = [
    { name: "lm-infinite", precisions: ["f32"], bits: [null], sinks: [0, 4, 10], threads: 2 },
    // More threads than heads.
    { name: "lm-infinite", precisions: ["q8"], bits: [8, 4], sinks: [0, 10], threads: 6 },
    { name: "lm-infinite", precisions: ["q8", "int8", "q4"], bits: [null], sinks: [10], threads: 1 },
    { name: "lm-infinite", precisions: ["int8"], bits: [8], sinks: [10], threads: 1 },
    { name: "lm-infinite-alibi", precisions: ["f32", "q8", "int8"], bits: [null], sinks: [4], threads: 1 },
    { name: "lm-infinite-alibi", precisions: ["f32"], bits: [8], sinks: [4], threads: 1 },
    { name: "architectures/gemma2", precisions: ["f32"], bits: [null, 8], sinks: [4], threads: 1 },
    { name: "architectures/gpt2", precisions: ["f32"], bits: [null, 8], sinks: [4], threads: 1 },
  ] as const;
  it.each(
    cases.flatMap(({ precisions, bits, ...each }) =>
      precisions.flatMap((precision) => bits.map((kv) => ({ ...each, precision, kv }))),
    ),
  )("$name in $precision, keys and values of $kv bits", async ({ name, precision, kv, sinks, threads }) => {
    using runner = await open(goldenFolder(name), precision, threads, kv);
    const texts = fitting(runner);
    for (const kept of sinks)
      expectSame(
        together(runner, kept, texts, 7),
        texts.map((text) => alone(runner, kept, text)),
      );
  });
});

// Rows that wait compute with id 0.
it.each([
  { name: "architectures/gemma2", embedding: "model.embed_tokens.weight", precision: "f32" },
  { name: "lm-infinite-alibi", embedding: "transformer.wte.weight", precision: "f32" },
  { name: "lm-infinite-alibi", embedding: "transformer.wte.weight", precision: "int8" },
] as const)(
  "what rows of $name compute in $precision that wait is never seen, even where it is not a number",
  async ({ name, embedding, precision }) => {
    using runner = await open(overflowing(folder, name, embedding), precision);
    const cache = runner.openCache({ window: 8, sinks: 0 });
    expect(runner.decode(cache, cache.allocate(), [0]).every(Number.isNaN)).toBe(true);
    runner.closeCache(cache);
    expectSame(
      together(runner, 10, TEXTS, 3),
      TEXTS.map((text) => alone(runner, 10, text)),
    );
  },
);

describe("a forked row", () => {
  it("goes on as the row does that it is a copy of, and either without the other", async () => {
    using runner = await open(goldenFolder("lm-infinite"));
    const cache = runner.openCache({ window: 64, sinks: 4 });
    const row = cache.allocate(24);
    runner.prefill(cache, row, IDS.slice(0, 24));
    const copy = cache.fork(row);
    expect([copy, cache.count(copy), cache.windowOf(copy)]).toEqual([1, 24, 24]);
    const vocab = runner.model.shape.vocabSize;
    const next = (tokens: readonly (number | null)[]): Float32Array[] => {
      const logits = runner.decode(cache, 0, tokens);
      return tokens.map((_, i) => logits.slice(i * vocab, (i + 1) * vocab));
    };
    const same = IDS.slice(24, 60).map((id) => next([id, id]));
    for (const [own, copied] of same) expect(copied).toEqual(own);
    const [, apart] =
      IDS.slice(60, 80)
        .map((id) => next([7, id]))
        .at(-1) ?? [];
    cache.release(copy);
    cache.release(row);
    const fresh = cache.allocate(24);
    runner.prefill(cache, fresh, IDS.slice(0, 24));
    const single = IDS.slice(24, 80).map((id) => next([id])[0]);
    expect(apart).toEqual(single.at(-1));
    runner.closeCache(cache);
  });

  it("has starting tokens and idle steps of its own", async () => {
    using runner = await open(goldenFolder("lm-infinite"));
    const text = { window: 32, ids: IDS, runs: [2, ...steps(60)] };
    const want = alone(runner, 10, text);
    const cache = runner.openCache({ window: 32, sinks: 10 });
    cache.allocate();
    const row = cache.allocate();
    runner.prefill(cache, row, IDS.slice(0, 2));
    runner.decode(cache, 0, [5, null]);
    const copy = cache.fork(row);
    cache.release(row);
    expect([copy, cache.rows]).toEqual([2, 2]);
    const got = IDS.slice(2, 62).map((id) => runner.decode(cache, 0, [null, id]).slice(runner.model.shape.vocabSize));
    expect(got).toEqual(want.slice(1));
    runner.closeCache(cache);
  });
});

describe("a step", () => {
  it("in which no row decodes, or one that is not there, is refused and changes nothing", async () => {
    using runner = await open(goldenFolder("lm-infinite"));
    const cache = runner.openCache({ window: 32, sinks: 4 });
    cache.allocate();
    expect(() => runner.decode(cache, 0, [null])).toThrow("no row has a token");
    expect(() => runner.decode(cache, 0, [1, 2])).toThrow("row 1 is not in use");
    expect(() => runner.prefill(cache, 0, IDS.slice(0, 33))).toThrow("33 tokens is longer than the window");
    expect(cache.count(0)).toBe(0);
    runner.closeCache(cache);
  });

  it.each([null, 8] as const)(
    "that fails is run again as if it had never begun, and rows outside of it are untouched, %s bits",
    async (bits) => {
      using runner = await open(goldenFolder("lm-infinite"), "f32", 1, bits);
      const texts = [24, 16, 32].map((window, i) => ({ window, ids: IDS.slice(i), runs: [12, 3, ...steps(40)] }));
      const want = texts.map((text) => alone(runner, 4, text));
      // A token that the model does not know fails in the middle of a run, as whatever else may.
      const failing = together(runner, 4, texts, 5, (cache) => {
        const counts = texts.map((_, row) => cache.count(row));
        expect(() => runner.decode(cache, 0, [3, 1 << 20])).toThrow(/indices element out of data bounds/);
        expect(texts.map((_, row) => cache.count(row))).toEqual(counts);
      });
      expectSame(failing, want);
    },
  );
});
