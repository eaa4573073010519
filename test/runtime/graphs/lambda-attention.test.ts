import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { expectedTensors, goldenFolder, goldenIds, maxDifference } from "../../golden-tensors.js";

const TOLERANCE = 2e-4;
const VOCAB = 256;
const ids = goldenIds("lm-infinite");
const expected = expectedTensors("lm-infinite");
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
let runner: Runner;

beforeAll(async () => {
  const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
  runner = new Runner(model, { window: 32, threads: 2, spin: false });
});

afterAll(() => {
  runner[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

/** Runs `use` on one row of a fresh cache. */
function withRow<T>(geometry: { window: number; sinks: number }, use: (cache: LambdaCache, row: number) => T): T {
  const cache = runner.openCache(geometry);
  try {
    return use(cache, cache.allocate());
  } finally {
    runner.closeCache(cache);
  }
}

/** Logits of every token of `tokens`, prefilled in chunks. */
function prefillAll(
  cache: LambdaCache,
  row: number,
  tokens: readonly number[],
  chunk: number,
  origin = 0,
): Float32Array {
  const logits = new Float32Array(tokens.length * VOCAB);
  for (let start = 0; start < tokens.length; start += chunk) {
    const part = tokens.slice(start, start + chunk);
    logits.set(runner.prefill(cache, row, part, [...part.keys()], { origin }), start * VOCAB);
  }
  return logits;
}

function decodeAll(cache: LambdaCache, row: number, tokens: readonly number[], origin = 0): Float32Array {
  const logits = new Float32Array(tokens.length * VOCAB);
  for (const [i, token] of tokens.entries()) logits.set(runner.decode(cache, row, [token], { origin }), i * VOCAB);
  return logits;
}

const goldenLogits = (name: string): Float32Array => expected.get(name)?.values ?? new Float32Array();

describe.each([
  { name: "lambda_w32_g4", window: 32, sinks: 4 },
  { name: "lambda_w32_g10", window: 32, sinks: 10 },
  { name: "lambda_w48_g4", window: 48, sinks: 4 },
])("$name, logits of the paper's own code", ({ name, ...geometry }) => {
  it.each([1, 7, geometry.window - 1, geometry.window, 16])("prefilled in chunks of %i", (chunk) => {
    const logits = withRow(geometry, (cache, row) => prefillAll(cache, row, ids, chunk));
    expect(maxDifference(logits, goldenLogits(name))).toBeLessThan(TOLERANCE);
  });

  it("decoded token by token", () => {
    const logits = withRow(geometry, (cache, row) => decodeAll(cache, row, ids));
    expect(maxDifference(logits, goldenLogits(name))).toBeLessThan(TOLERANCE);
  });

  it.each([1, 3, 4, 5, 9, 10, 11, 31, 32, 33, 35, 36, 37, 41, 42, 43, 47, 48, 49, 52, 53, 64, 68, 100, 333])(
    "prefilled for %i tokens, then decoded, then prefilled again",
    (prompt) => {
      const [more, end] = [prompt + 9, Math.min(ids.length, prompt + 23)];
      const logits = withRow(geometry, (cache, row) => {
        prefillAll(cache, row, ids.slice(0, prompt), 13);
        const decoded = decodeAll(cache, row, ids.slice(prompt, more));
        return [...decoded, ...prefillAll(cache, row, ids.slice(more, end), 14)];
      });
      expect(maxDifference(logits, goldenLogits(name).slice(prompt * VOCAB, end * VOCAB))).toBeLessThan(TOLERANCE);
    },
  );
});

it("mode full is ordinary attention, and its cache grows with the text", () => {
  const full = { window: Number.POSITIVE_INFINITY, sinks: 0 };
  for (const run of [
    (c: LambdaCache, r: number) => prefillAll(c, r, ids, 50),
    (c: LambdaCache, r: number) => decodeAll(c, r, ids),
  ]) {
    expect(maxDifference(withRow(full, run), goldenLogits("vanilla"))).toBeLessThan(TOLERANCE);
  }
});

describe.each([
  { window: 32, sinks: 0 },
  { window: 5, sinks: 0 },
  { window: 8, sinks: 12 },
  { window: 1, sinks: 2 },
  { window: 300, sinks: 6 },
])("without a golden: window $window, sinks $sinks", (geometry) => {
  it.each([1, 2, 5, 8, 12, 13, 20, 21, 40])(
    "%i prompt tokens, prefilled in any chunks, give what decoding gives",
    (prompt) => {
      const tokens = ids.slice(0, prompt + 30);
      const decoded = withRow(geometry, (cache, row) => decodeAll(cache, row, tokens));
      for (const chunk of [1, Math.ceil(geometry.window / 2), geometry.window]) {
        const mixed = withRow(geometry, (cache, row) => [
          ...prefillAll(cache, row, tokens.slice(0, prompt), chunk),
          ...decodeAll(cache, row, tokens.slice(prompt)),
        ]);
        expect(maxDifference(mixed, decoded)).toBeLessThan(TOLERANCE);
      }
    },
  );
});

it("a text without sinks is the same at position 0 and at position 10,000,000", () => {
  const geometry = { window: 32, sinks: 0 };
  const near = withRow(geometry, (cache, row) => decodeAll(cache, row, ids.slice(0, 100)));
  const far = withRow(geometry, (cache, row) => decodeAll(cache, row, ids.slice(0, 100), 1e7));
  const farPrefilled = withRow(geometry, (cache, row) => prefillAll(cache, row, ids.slice(0, 100), 20, 1e7));
  expect(maxDifference(near, far)).toBeLessThan(TOLERANCE);
  expect(maxDifference(near, farPrefilled)).toBeLessThan(TOLERANCE);
});

describe("rows of one cache", () => {
  const geometry = { window: 32, sinks: 4 };
  const golden = goldenLogits("lambda_w32_g4");

  it("decode together what they decode alone, at different lengths", () => {
    const logits = withRow(geometry, (cache, first) => {
      const rows = [first, cache.allocate(), cache.allocate()];
      const starts = [120, 2, 40];
      for (const [i, row] of rows.entries()) prefillAll(cache, row, ids.slice(0, starts[i]), 32);
      return Array.from({ length: 50 }, (_, step) => [
        ...runner.decode(
          cache,
          first,
          starts.map((start) => ids[start + step] ?? 0),
        ),
      ]);
    });
    for (const [step, row] of logits.entries()) {
      const want = [120, 2, 40].flatMap((start) => [
        ...golden.subarray((start + step) * VOCAB, (start + step + 1) * VOCAB),
      ]);
      expect(maxDifference(row, want)).toBeLessThan(TOLERANCE);
    }
  });

  it("go on as they were when another ends and when the cache grows", () => {
    withRow({ window: 320, sinks: 4 }, (cache, first) => {
      const second = cache.allocate();
      decodeAll(cache, first, ids.slice(0, 20));
      prefillAll(cache, second, ids.slice(0, 250), 100);
      const before = cache.slots(0);
      expect(cache.release(first)).toBe(second);
      const logits = decodeAll(cache, first, ids.slice(250, 310));
      expect(cache.slots(0)).toBeGreaterThan(before);
      expect(cache.rows).toBe(1);
      const alone = decodeAll(cache, cache.allocate(), ids.slice(0, 310)).subarray(250 * VOCAB);
      expect(maxDifference(logits, alone)).toBeLessThan(TOLERANCE);
    });
  });

  it("are zeroed for their next owner", () => {
    withRow(geometry, (cache, row) => {
      decodeAll(cache, row, ids.slice(0, 50));
      for (const tensor of [...cache.keys, ...cache.values]) tensor.fill(Number.NaN);
      for (const tensor of cache.sinkKeys) tensor?.fill(Number.NaN);
      expect(runner.decode(cache, row, [1]).some(Number.isNaN)).toBe(true);
      cache.release(row);
      const again = decodeAll(cache, cache.allocate(), ids.slice(0, 60));
      expect(maxDifference(again, golden.subarray(0, 60 * VOCAB))).toBeLessThan(TOLERANCE);
    });
  });

  it("a short text in a long window has a small cache", () => {
    const bytes = (window: number) =>
      withRow({ window, sinks: 4 }, (cache, row) => {
        decodeAll(cache, row, ids.slice(0, 100));
        return cache.bytes;
      });
    expect(bytes(8192)).toBe(bytes(256));
  });
});
