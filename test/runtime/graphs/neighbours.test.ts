import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { Precision } from "../../../models/weights/block-format.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import type { Device } from "../../../runtime/ort/device.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";
import { writeTensors } from "../../models/random-model.js";
import { FAR_CPU } from "../ort/far-cpu.js";
import { alone, type ScheduledText, together } from "./text-schedule.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));

const IDS = Array.from({ length: 400 }, (_, i) => 3 + ((i * i * 31 + i * 17 + (i >> 3)) % 60));
const steps = (count: number): number[] => Array.from({ length: count }, () => 1);

const TEXTS: readonly ScheduledText[] = [
  { window: 24, ids: IDS, runs: [24, 24, 12, ...steps(8), 5, ...steps(8)] },
  // Its prompt is shorter than the starting tokens, and its ring goes round many times.
  { window: 7, ids: IDS.slice(40), runs: [3, ...steps(30), 7, 7, ...steps(9)] },
  // Its second chunk goes beyond the window before all starting tokens are there.
  { window: 8, ids: IDS.slice(20), runs: [2, 7, ...steps(20), 8, ...steps(4)] },
  { window: 300, ids: IDS.slice(7), runs: [100, 100, 70, ...steps(12)] },
  { window: 40, ids: IDS.slice(9), runs: steps(50) },
];

const open = async (path: string, precision: Precision = "f32", threads = 1): Promise<Runner> =>
  new Runner(await compileModel({ path, precision, cacheRoot }), { window: 300, threads });

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
    { name: "lm-infinite", precisions: ["f32"], sinks: [0, 4, 10], threads: 2 },
    { name: "lm-infinite", precisions: ["q8", "q4"], sinks: [10], threads: 1 },
    { name: "lm-infinite-alibi", precisions: ["f32", "q8"], sinks: [4], threads: 1 },
    { name: "architectures/gemma2", precisions: ["f32"], sinks: [4], threads: 1 },
    { name: "architectures/gpt2", precisions: ["f32"], sinks: [4], threads: 1 },
  ] as const;
  it.each(cases.flatMap(({ precisions, ...each }) => precisions.map((precision) => ({ ...each, precision }))))(
    "$name in $precision",
    async ({ name, precision, sinks, threads }) => {
      using runner = await open(goldenFolder(name), precision, threads);
      const texts = fitting(runner);
      for (const kept of sinks)
        expectSame(
          together(runner, kept, texts, 7),
          texts.map((text) => alone(runner, kept, text)),
        );
    },
  );
});

// Rows that wait compute with id 0, whose embedding overflows here.
it.each([
  { name: "architectures/gemma2", embedding: "model.embed_tokens.weight" },
  { name: "lm-infinite-alibi", embedding: "transformer.wte.weight" },
])("what rows of $name compute that wait is never seen, even where it is not a number", async ({ name, embedding }) => {
  const path = mkdtempSync(join(folder, "model-"));
  const golden = goldenFolder(name);
  copyFileSync(join(golden, "config.json"), join(path, "config.json"));
  {
    using file = openSafetensors(join(golden, "model.safetensors"));
    const tensors = [...file.tensors].map(([key, { shape }]) => ({ name: key, shape, values: file.readF32(key) }));
    const table = tensors.find((each) => each.name === embedding);
    table?.values.fill(3e38, 0, table.shape[1]);
    writeTensors(join(path, "model.safetensors"), tensors);
  }
  using runner = await open(path);
  const cache = runner.openCache({ window: 8, sinks: 0 });
  expect(runner.decode(cache, cache.allocate(), [0]).every(Number.isNaN)).toBe(true);
  runner.closeCache(cache);
  expectSame(
    together(runner, 10, TEXTS, 3),
    TEXTS.map((text) => alone(runner, 10, text)),
  );
});

describe("where steps are recorded", () => {
  const recordings = new Set<number>();
  const device: Device = {
    ...FAR_CPU,
    runOptions: (recording) => {
      if (recording !== null) recordings.add(recording);
      return null;
    },
  };

  it("a few recordings serve all compositions of a batch, and texts are as they are alone", async () => {
    const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
    using runner = new Runner(model, { window: 300, threads: 1, device, replays: true });
    const texts = [...TEXTS, ...TEXTS].map((text) => ({ ...text, window: Math.min(text.window, 200) }));
    const want = texts.map((text) => alone(runner, 4, text));
    recordings.clear();
    // Weights are not packed there, and ONNX Runtime multiplies one row by them in another way than several.
    for (const [i, runs] of together(runner, 4, texts, 11).entries())
      for (const [at, logits] of runs.entries()) expect(maxDifference(logits, want[i]?.[at] ?? [])).toBeLessThan(2e-4);
    // Blocks of 1, 2, 4, 8 and 16 rows of one cache.
    expect(recordings.size).toBeLessThanOrEqual(31);
    recordings.clear();
    const cache = runner.openCache({ window: 64, sinks: 4 });
    for (let row = 0; row < 13; row++) cache.allocate();
    for (let rows = 1; rows <= 13; rows++) runner.decode(cache, 0, IDS.slice(0, rows));
    expect(recordings.size).toBe(5);
    runner.closeCache(cache);
  });

  it("taps are those of the rows that were asked for", async () => {
    const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
    const taps = new Set(model.hooks);
    using plain = new Runner(model, { window: 64, threads: 1, taps });
    using recorded = new Runner(model, { window: 64, threads: 1, taps, device, replays: true });
    const read = (runner: Runner) => {
      const cache = runner.openCache({ window: 64, sinks: 4 });
      for (let row = 0; row < 5; row++) cache.allocate();
      const residuals: Residuals = new Map();
      const logits = runner.decode(cache, 3, [7, 9], { residuals }).slice();
      runner.closeCache(cache);
      return { logits, residuals };
    };
    expect(read(recorded)).toEqual(read(plain));
  });
});

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

  it("that fails is run again as if it had never begun, and rows outside of it are untouched", async () => {
    using runner = await open(goldenFolder("lm-infinite"));
    const texts = [24, 16, 32].map((window, i) => ({ window, ids: IDS.slice(i), runs: [12, 3, ...steps(40)] }));
    const want = texts.map((text) => alone(runner, 4, text));
    // A token that the model does not know fails in the middle of a run, as whatever else may.
    const failing = together(runner, 4, texts, 5, (cache) => {
      const counts = texts.map((_, row) => cache.count(row));
      expect(() => runner.decode(cache, 0, [3, 1 << 20])).toThrow(/indices element out of data bounds/);
      expect(texts.map((_, row) => cache.count(row))).toEqual(counts);
    });
    expectSame(failing, want);
  });
});
