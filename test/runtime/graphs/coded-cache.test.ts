import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { KvRanges } from "../../../models/keys-values/kv-ranges.js";
import { Archive } from "../../../runtime/cache/archive.js";
import type { LambdaGeometry } from "../../../runtime/cache/lambda-cache.js";
import { openKvRanges } from "../../../runtime/calibration/open-kv-ranges.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { goldenFolder } from "../../golden-tensors.js";
import { codedRunner, type KvBits } from "./coded-runner.js";
import { readWhole } from "./text-schedule.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const IDS = Array.from({ length: 120 }, (_, i) => 3 + ((i * i * 31 + i * 17 + (i >> 3)) % 90));
const LAMBDA = { window: 24, sinks: 4 };

const open = async (name: string, bits: KvBits): Promise<Runner> => {
  const source = { path: goldenFolder(name), precision: "f32", cacheRoot } as const;
  return (await codedRunner(source, bits, { window: 512, threads: 1 })).runner;
};

const read = (runner: Runner, chunkAt: (n: number) => number, geometry: LambdaGeometry = LAMBDA) =>
  readWhole(runner, IDS, geometry, chunkAt);

/** The error's share of what should be there: both as root mean squares. */
function relativeError(got: readonly number[], want: readonly number[]): number {
  const norm = (values: readonly number[]) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
  return norm(got.map((x, i) => x - want[i]!)) / norm(want);
}

const MODELS = [
  "lm-infinite",
  "lm-infinite-alibi",
  ...["gemma2", "gemma3_text", "gpt2", "gptj", "mistral", "olmo2", "phi3", "qwen3", "smollm3"].map(
    (name) => `architectures/${name}`,
  ),
];

/** The error of what `use` computes with keys and values of 8 and of 4 bits, beside f32. */
async function errorsOf(name: string, use: (runner: Runner) => number[]): Promise<{ eight: number; four: number }> {
  const [want = [], eight = [], four = []] = await Promise.all(
    ([null, 8, 4] as const).map(async (bits) => {
      using runner = await open(name, bits);
      return use(runner);
    }),
  );
  return { eight: relativeError(eight, want), four: relativeError(four, want) };
}

// A step of 4 bits is 18 times one of 8. What is no rounding does not grow with the step.
describe("keys and values of 8 bits change logits by their rounding, which 4 bits do far more, however a text is cut", () => {
  it.each(MODELS)("%s", async (name) => {
    for (const chunkAt of [() => 1, () => 12, (n: number) => (n % 3 === 0 ? 17 : 1)]) {
      const { eight, four } = await errorsOf(name, (runner) => read(runner, chunkAt).logits);
      expect(eight).toBeLessThan(0.05);
      expect(eight).toBeLessThan(four / 8);
    }
  });
});

// With a window of 1 or 2 the ring has a single slot, and with one that does not end nothing leaves it.
describe.each([1, 2, Number.POSITIVE_INFINITY])("so they do with a window of %s", (window) => {
  it.each(["lm-infinite", "lm-infinite-alibi"])("%s", async (name) => {
    for (const sinks of [0, 4])
      for (const chunkAt of [() => 1, (n: number) => (n % 5 === 0 ? Math.min(window, 9) : 1)]) {
        const { eight, four } = await errorsOf(name, (runner) => read(runner, chunkAt, { window, sinks }).logits);
        expect(eight).toBeLessThan(0.05);
        expect(eight).toBeLessThan(four / 8);
      }
  });
});

it("a cache of 8 bits takes a quarter of the bytes, and one of 4 bits an eighth, but for the starting tokens", async () => {
  const geometry = { window: 254, sinks: 2 };
  const [whole = 0, eight = 0, four = 0] = await Promise.all(
    ([null, 8, 4] as const).map(async (bits) => {
      using runner = await open("lm-infinite", bits);
      return read(runner, () => 100, geometry).bytes;
    }),
  );
  using plain = await open("lm-infinite", null);
  const { layers, kvHeads, headDim } = plain.model.shape;
  const startingKeys = layers * kvHeads * headDim * 2 * 4;
  expect(eight - startingKeys).toBe((whole - startingKeys) / 4);
  expect(four - startingKeys).toBe((whole - startingKeys) / 8);
});

it("what lies beyond its range is limited and counted, in chunks and in steps", async () => {
  using plain = await open("lm-infinite", null);
  const ranges = openKvRanges(plain.model, { ids: null, threads: 1 });
  const narrow = (of: readonly Float32Array[]) => of.map((layer) => layer.map((range) => range / 20));
  const counted = (bits: 8 | 4, { keys, values }: KvRanges) => {
    using runner = new Runner(plain.model, { window: 24, threads: 1, kv: { bits, ranges: { keys, values } } });
    const cache = runner.openCache(LAMBDA);
    const row = cache.allocate();
    const logits = runner.prefill(cache, row, IDS.slice(0, 20), [19]);
    const ofChunk = cache.saturated;
    for (const id of IDS.slice(20, 60)) runner.decode(cache, row, [id]);
    cache.release(row);
    const found = { finite: logits.every(Number.isFinite), ofChunk, ofSteps: cache.saturated - ofChunk };
    runner.closeCache(cache);
    return found;
  };
  const { layers, kvHeads, headDim } = plain.model.shape;
  const codes = (tokens: number) => 2 * layers * kvHeads * headDim * tokens;
  for (const bits of [8, 4] as const) {
    expect(counted(bits, ranges)).toEqual({ finite: true, ofChunk: 0, ofSteps: 0 });
    const { finite, ofChunk, ofSteps } = counted(bits, { keys: narrow(ranges.keys), values: narrow(ranges.values) });
    expect(finite).toBe(true);
    // Ranges a sixteenth of the largest value seen: more than half of what a random model makes lies beyond.
    for (const [count, tokens] of [
      [ofChunk, 20],
      [ofSteps, 40],
    ] as const) {
      expect(count).toBeGreaterThan(codes(tokens) / 2);
      expect(count).toBeLessThan(codes(tokens));
    }
  }
});

describe("a text that retrieves", () => {
  const retrieval = { k: 5, fromLayer: 1, distance: 12 };
  const retrieved = (runner: Runner): number[] => {
    const cache = runner.openCache(LAMBDA);
    using archive = new Archive(runner.model.shape, { ...LAMBDA, retrieval, tokens: IDS.length });
    const row = cache.allocate();
    const logits: number[] = [];
    for (let n = 0; n < 60; n += 20) runner.prefill(cache, row, IDS.slice(n, n + 20), [], { archive });
    for (const id of IDS.slice(60)) logits.push(...runner.decode(cache, row, [id], { archive }));
    runner.closeArchive(archive);
    runner.closeCache(cache);
    return logits;
  };
  it.each(["lm-infinite", "architectures/gemma3_text"])("finds in %s what it finds in f32", async (name) => {
    const { eight, four } = await errorsOf(name, retrieved);
    expect(eight).toBeLessThan(0.06);
    expect(eight).toBeLessThan(four / 6);
  });
});
