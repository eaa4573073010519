import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { LambdaGeometry } from "../../../runtime/cache/lambda-cache.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";
import { readWhole } from "./text-schedule.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const IDS = Array.from({ length: 400 }, (_, i) => 3 + ((i * i * 31 + i * 17 + (i >> 3)) % 125));

/** Each way of giving a text to a model: the length of the chunk that token `n` begins. */
const WAYS = {
  "chunks of 24": () => 24,
  "chunks of 7": () => 7,
  "token by token": () => 1,
  "chunks and single tokens in turn": (n: number) => (n % 3 === 0 ? 17 : 1),
};

const read = (runner: Runner, geometry: LambdaGeometry, chunkAt: (n: number) => number) =>
  readWhole(runner, IDS, geometry, chunkAt);

const open = async (name: string, window: number): Promise<Runner> =>
  new Runner(await compileModel({ path: goldenFolder(`architectures/${name}`), precision: "f32", cacheRoot }), {
    window,
    threads: 1,
  });

// One chunk finds every ring empty: its layers see by position alone, and nothing has wrapped.
const inOneChunk = (runner: Runner) => read(runner, { window: Number.POSITIVE_INFINITY, sinks: 0 }, () => IDS.length);

describe("a sliding window is exact 25 windows into the text, as the same text in one chunk", () => {
  it.each(["mistral", "gemma2", "gemma3_text", "phi3_longrope"])("%s", async (name) => {
    using runner = await open(name, 512);
    const want = inOneChunk(runner).logits;
    for (const [way, chunkAt] of Object.entries(WAYS)) {
      const got = read(runner, { window: 512, sinks: 2 }, chunkAt).logits;
      expect(maxDifference(got, want), way).toBeLessThan(2e-4);
    }
  });

  it("whatever window the server has, where all layers slide; and its cache holds no more than that", async () => {
    using runner = await open("mistral", 512);
    const want = inOneChunk(runner).logits;
    for (const window of [24, 40]) {
      const { logits, bytes } = read(runner, { window, sinks: 4 }, () => 11);
      expect(maxDifference(logits, want)).toBeLessThan(2e-4);
      expect(bytes).toBe(2 * 2 * 2 * 16 * 8 * 4); // layers, keys and values, key-value heads, window, headDim, f32
    }
  });
});

describe("LM-Infinite on 400 tokens, window 24, four starting tokens: the same, however the text is cut", () => {
  it.each(["smollm3", "gemma2", "gemma3_text", "qwen3", "olmo2", "phi3"])("%s", async (name) => {
    using runner = await open(name, 24);
    const lambda = { window: 24, sinks: 4 };
    const { "token by token": single, ...ways } = WAYS;
    const want = read(runner, lambda, single);
    for (const [way, chunkAt] of Object.entries(ways)) {
      const { logits, bytes } = read(runner, lambda, chunkAt);
      expect(maxDifference(logits, want.logits), way).toBeLessThan(2e-4);
      expect(bytes).toBe(want.bytes);
    }
    expect(maxDifference(inOneChunk(runner).logits, want.logits)).toBeGreaterThan(0.1); // the window does hide something
  });
});
