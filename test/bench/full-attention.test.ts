import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { compileModel } from "../../models/compile.js";
import { expectedTensors, goldenFolder, goldenIds, maxDifference } from "../golden-tensors.js";
import { FullRunner } from "./full-runner.js";

const TOLERANCE = 2e-4;
const VOCAB = 256;
const ids = goldenIds("lm-infinite");
const vanilla = expectedTensors("lm-infinite").get("vanilla")?.values ?? new Float32Array();
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
const path = goldenFolder("lm-infinite");
let runner: FullRunner;

beforeAll(async () => {
  runner = new FullRunner(path, await compileModel({ path, precision: "f32", cacheRoot }), 2);
});

afterAll(() => {
  runner[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

/** Logits of all tokens: `prompt` of them in chunks, the others one by one. */
function logitsOf(prompt: number, chunk: number, slots = ids.length): Float32Array {
  using cache = runner.openCache(slots);
  const logits = new Float32Array(ids.length * VOCAB);
  for (let start = 0; start < prompt; start += chunk) {
    const part = ids.slice(start, Math.min(start + chunk, prompt));
    logits.set(runner.prefill(cache, part, [...part.keys()]), start * VOCAB);
  }
  for (let n = prompt; n < ids.length; n++) logits.set(runner.decode(cache, ids[n] ?? 0), n * VOCAB);
  return logits;
}

it.each([
  { prompt: 400, chunk: 400 },
  { prompt: 400, chunk: 64 },
  { prompt: 400, chunk: 7 },
  { prompt: 0, chunk: 1 },
  { prompt: 150, chunk: 40 },
])("the baseline is ordinary attention: $prompt tokens in chunks of $chunk, the rest one by one", (of) => {
  expect(maxDifference(logitsOf(of.prompt, of.chunk), vanilla)).toBeLessThan(TOLERANCE);
});

it("products per group of query heads give the same for the last token of a text", () => {
  for (const length of [1, 2, 150, 400]) {
    using cache = runner.openCache(length);
    if (length > 1) runner.prefill(cache, ids.slice(0, length - 1));
    const logits = runner.decode(cache, ids[length - 1] ?? 0, "products");
    expect(maxDifference(logits, vanilla.slice((length - 1) * VOCAB, length * VOCAB))).toBeLessThan(TOLERANCE);
  }
});

it("products are refused before the last slot, where they would attend to slots that hold nothing", () => {
  using cache = runner.openCache(8);
  expect(() => runner.decode(cache, 1, "products")).toThrow("a token at 0 would attend to 8 slots");
});

it("gives the same in a buffer that is longer than the text", () => {
  expect(maxDifference(logitsOf(200, 50, 1000), vanilla)).toBeLessThan(TOLERANCE);
});

it("writes keys and values into its buffers, where they stand", () => {
  using cache = runner.openCache(20);
  runner.prefill(cache, ids.slice(0, 10));
  runner.decode(cache, 1);
  for (const buffer of [...cache.keys, ...cache.values]) {
    const [, kvHeads = 0, slots = 0, headDim = 0] = buffer.shape;
    const values = buffer.read(new Float32Array(buffer.size));
    for (let head = 0; head < kvHeads; head++) {
      const token = (n: number) => values.subarray((head * slots + n) * headDim, (head * slots + n + 1) * headDim);
      expect(token(10).some((x) => x !== 0)).toBe(true);
      expect(token(11).every((x) => x === 0)).toBe(true);
    }
  }
});

it("a text that is longer than its buffer is refused", () => {
  using cache = runner.openCache(8);
  expect(() => runner.prefill(cache, ids.slice(0, 9))).toThrow("9 tokens do not fit into a cache of 8");
  runner.prefill(cache, ids.slice(0, 8));
  expect(() => runner.decode(cache, 1)).toThrow("9 tokens do not fit into a cache of 8");
});
