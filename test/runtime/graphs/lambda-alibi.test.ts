import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { expectedTensors, goldenFolder, goldenIds, maxDifference } from "../../golden-tensors.js";

const GOLDEN = "lm-infinite-alibi";
const TOLERANCE = 2e-4;
const VOCAB = 256;
const ids = goldenIds(GOLDEN);
const expected = expectedTensors(GOLDEN);
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
let runner: Runner;

beforeAll(async () => {
  const model = await compileModel({ path: goldenFolder(GOLDEN), precision: "f32", cacheRoot });
  runner = new Runner(model, { window: 32, threads: 1 });
});

afterAll(() => {
  runner[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

interface Place {
  readonly cache: LambdaCache;
  readonly row: number;
  readonly origin?: number;
}

/** Runs `use` on one row of a fresh cache. */
function withRow<T>(geometry: { window: number; sinks: number }, use: (place: Place) => T): T {
  const cache = runner.openCache(geometry);
  try {
    return use({ cache, row: cache.allocate() });
  } finally {
    runner.closeCache(cache);
  }
}

/** Logits of every token, prefilled in chunks. */
const prefill = ({ cache, row, origin = 0 }: Place, tokens: readonly number[], chunk: number): number[] =>
  Array.from({ length: Math.ceil(tokens.length / chunk) }, (_, i) => {
    const part = tokens.slice(i * chunk, (i + 1) * chunk);
    return [...runner.prefill(cache, row, part, [...part.keys()], { origin })];
  }).flat();

const decode = ({ cache, row, origin = 0 }: Place, tokens: readonly number[]): number[] =>
  tokens.flatMap((token) => [...runner.decode(cache, row, [token], { origin })]);

const golden = (name: string): Float32Array => expected.get(name)?.values ?? new Float32Array();

describe.each([
  { name: "lambda_w32_g4", window: 32, sinks: 4 },
  { name: "lambda_w32_g10", window: 32, sinks: 10 },
  { name: "lambda_w48_g4", window: 48, sinks: 4 },
])("$name of a model with ALiBi, logits of the paper's own code", ({ name, ...geometry }) => {
  it.each([1, 7, geometry.window - 1, geometry.window, 16])("prefilled in chunks of %i", (chunk) => {
    expect(
      maxDifference(
        withRow(geometry, (place) => prefill(place, ids, chunk)),
        golden(name),
      ),
    ).toBeLessThan(TOLERANCE);
  });

  it("decoded token by token", () => {
    expect(
      maxDifference(
        withRow(geometry, (place) => decode(place, ids)),
        golden(name),
      ),
    ).toBeLessThan(TOLERANCE);
  });

  it.each([1, 4, 5, 10, 11, 31, 32, 33, 36, 42, 43, 47, 48, 52, 53, 64, 100, 333])(
    "prefilled for %i tokens, then decoded, then prefilled again",
    (prompt) => {
      const [more, end] = [prompt + 9, Math.min(ids.length, prompt + 23)];
      const logits = withRow(geometry, (place) => {
        prefill(place, ids.slice(0, prompt), 13);
        return [...decode(place, ids.slice(prompt, more)), ...prefill(place, ids.slice(more, end), 14)];
      });
      expect(maxDifference(logits, golden(name).slice(prompt * VOCAB, end * VOCAB))).toBeLessThan(TOLERANCE);
    },
  );
});

describe("a model with ALiBi", () => {
  it("in mode full has ordinary attention", () => {
    const full = { window: Number.POSITIVE_INFINITY, sinks: 0 };
    const prefilled = withRow(full, (place) => prefill(place, ids, 50));
    const decoded = withRow(full, (place) => decode(place, ids));
    expect(maxDifference(prefilled, golden("vanilla"))).toBeLessThan(TOLERANCE);
    expect(maxDifference(decoded, golden("vanilla"))).toBeLessThan(TOLERANCE);
  });

  it.each([
    { window: 32, sinks: 0 },
    { window: 8, sinks: 12 },
    { window: 1, sinks: 2 },
  ])("gives what decoding gives, however a text is cut: window $window, sinks $sinks", (geometry) => {
    for (const prompt of [1, 2, 8, 12, 13, 21, 40]) {
      const tokens = ids.slice(0, prompt + 30);
      const decoded = withRow(geometry, (place) => decode(place, tokens));
      for (const chunk of [1, Math.ceil(geometry.window / 2), geometry.window]) {
        const mixed = withRow(geometry, (place) => [
          ...prefill(place, tokens.slice(0, prompt), chunk),
          ...decode(place, tokens.slice(prompt)),
        ]);
        expect(maxDifference(mixed, decoded)).toBeLessThan(TOLERANCE);
      }
    }
  });

  it("sees a text without sinks the same at position 0 and at position 10,000,000", () => {
    const geometry = { window: 32, sinks: 0 };
    const tokens = ids.slice(0, 100);
    const near = withRow(geometry, (place) => decode(place, tokens));
    const far = withRow(geometry, (place) => decode({ ...place, origin: 1e7 }, tokens));
    const farPrefilled = withRow(geometry, (place) => prefill({ ...place, origin: 1e7 }, tokens, 20));
    expect(maxDifference(near, far)).toBeLessThan(TOLERANCE);
    expect(maxDifference(near, farPrefilled)).toBeLessThan(TOLERANCE);
  });

  it("decodes rows of different lengths together as it does each alone", () => {
    const name = "lambda_w32_g4";
    const starts = [120, 2, 40];
    const steps = withRow({ window: 32, sinks: 4 }, ({ cache, row }) => {
      for (const [i, at] of [row, cache.allocate(), cache.allocate()].entries())
        prefill({ cache, row: at }, ids.slice(0, starts[i]), 32);
      return Array.from({ length: 40 }, (_, step) => [
        ...runner.decode(
          cache,
          row,
          starts.map((start) => ids[start + step] ?? 0),
        ),
      ]);
    });
    for (const [step, logits] of steps.entries()) {
      const want = starts.flatMap((start) => [
        ...golden(name).subarray((start + step) * VOCAB, (start + step + 1) * VOCAB),
      ]);
      expect(maxDifference(logits, want)).toBeLessThan(TOLERANCE);
    }
  });
});
