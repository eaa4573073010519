import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { Archive } from "../../../runtime/cache/archive.js";
import type { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import type { Retrieval } from "../../../runtime/cache/retrieval.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { expectedTensors, goldenFolder, goldenIds, maxDifference } from "../../golden-tensors.js";

const TOLERANCE = 2e-4;
const VOCAB = 256;
const WINDOW = 32;
const ids = goldenIds("lm-infinite");
const expected = expectedTensors("lm-infinite");
const golden = (name: string): Float32Array => expected.get(name)?.values ?? new Float32Array();
const row = (name: string, i: number): Float32Array => golden(name).subarray(i * VOCAB, (i + 1) * VOCAB);
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
let runner: Runner;

beforeAll(async () => {
  const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
  runner = new Runner(model, { window: WINDOW, threads: 2, spin: false });
});

afterAll(() => {
  runner[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

interface Text {
  readonly cache: LambdaCache;
  readonly row: number;
  readonly archive: Archive;
}

/** Runs `use` on one row of a fresh cache and an archive. */
function withText<T>(retrieval: Retrieval, use: (text: Text) => T, sinks = 4, tokens = ids.length): T {
  const geometry = { window: WINDOW, sinks };
  const cache = runner.openCache(geometry);
  const archive = new Archive(runner.model.shape, { ...geometry, retrieval, tokens });
  try {
    return use({ cache, row: cache.allocate(), archive });
  } finally {
    runner.closeArchive(archive);
    runner.closeCache(cache);
  }
}

function prefill({ cache, row, archive }: Text, tokens: readonly number[], chunk: number): void {
  for (let start = 0; start < tokens.length; start += chunk)
    runner.prefill(cache, row, tokens.slice(start, start + chunk), [], { archive });
}

const decode = ({ cache, row, archive }: Text, token: number | undefined): Float32Array =>
  runner.decode(cache, row, [token ?? 0], { archive }).slice();

/** Logits of the last of so many tokens, which retrieves as the last of a prompt does. */
const lastOf = (text: Text, length: number, chunk: number): Float32Array => {
  prefill(text, ids.slice(0, length - 1), chunk);
  return decode(text, ids[length - 1]);
};

describe.each([1, 7, 31, 32])("logits of the paper's own code, prompts prefilled in chunks of %i", (chunk) => {
  it.each([40, 41, 60, 100, 200, 400].map((length, i) => ({ length, i })))(
    "at the last of $length tokens",
    ({ length, i }) => {
      const retrieval = { k: 5, fromLayer: 1, distance: 16 };
      const logits = withText(retrieval, (text) => lastOf(text, length, chunk));
      expect(maxDifference(logits, row("retrieve_k5_from1_w32_g4", i))).toBeLessThan(TOLERANCE);
    },
  );

  it.each([
    { name: "retrieve_k5_from0_w32_g4_n200", fromLayer: 0, distance: 16 },
    { name: "retrieve_k5_from1_w32_g4_at32_n200", fromLayer: 1, distance: 32 },
  ])("$name", ({ name, ...more }) => {
    const logits = withText({ k: 5, ...more }, (text) => lastOf(text, 200, chunk));
    expect(maxDifference(logits, golden(name))).toBeLessThan(TOLERANCE);
  });

  it("at generated tokens", () => {
    withText({ k: 5, fromLayer: 1, distance: 16 }, (text) => {
      const first = lastOf(text, 100, chunk);
      const rest = ids.slice(100, 120).map((id) => decode(text, id));
      for (const [i, logits] of [first, ...rest].entries())
        expect(maxDifference(logits, row("retrieve_k5_from1_w32_g4_decode", i)), `token ${i}`).toBeLessThan(TOLERANCE);
    });
  });
});

it("nothing is retrieved before k keys are evicted, nor from a layer that is not there", () => {
  const lambda = (length: number) => row("lambda_w32_g4", length - 1);
  const few = withText({ k: 165, fromLayer: 0, distance: 16 }, (text) => lastOf(text, 200, 32));
  expect(maxDifference(few, lambda(200))).toBeLessThan(TOLERANCE);
  const enough = withText({ k: 164, fromLayer: 0, distance: 16 }, (text) => lastOf(text, 200, 32));
  expect(maxDifference(enough, lambda(200))).toBeGreaterThan(0.1);
  const nowhere = withText({ k: 5, fromLayer: 3, distance: 16 }, (text) => lastOf(text, 200, 32));
  expect(maxDifference(nowhere, lambda(200))).toBeLessThan(TOLERANCE);
});

it("without starting tokens a prompt that is prefilled is archived as one that is decoded", () => {
  // Keys of the last layer do not depend on what that layer retrieved before.
  const retrieval = { k: 3, fromLayer: 2, distance: 10 };
  const prefilled = withText(retrieval, (text) => lastOf(text, 90, 16), 0);
  const decoded = withText(
    retrieval,
    (text) =>
      ids
        .slice(0, 90)
        .map((id) => decode(text, id))
        .at(-1),
    0,
  );
  expect(maxDifference(prefilled, decoded ?? [])).toBeLessThan(TOLERANCE);
});

it("texts in rows of one cache retrieve from their own archives, and one that does not retrieve is not touched", () => {
  const retrieval = { k: 5, fromLayer: 1, distance: 16 };
  withText(retrieval, (first) => {
    const { cache } = first;
    const plain = cache.allocate();
    const archive = new Archive(runner.model.shape, { window: WINDOW, sinks: 4, retrieval, tokens: 130 });
    const second = { cache, row: cache.allocate(), archive };
    prefill(first, ids.slice(0, 99), 20);
    for (let start = 0; start < 100; start += 25) runner.prefill(cache, plain, ids.slice(start, start + 25));
    prefill(second, ids.slice(0, 99), 32);
    for (let i = 0; i < 21; i++) {
      const logits = [first, second].map((text) => decode(text, ids[99 + i]));
      for (const each of logits)
        expect(maxDifference(each, row("retrieve_k5_from1_w32_g4_decode", i))).toBeLessThan(TOLERANCE);
      const lambda = runner.decode(cache, plain, [ids[100 + i] ?? 0]);
      expect(maxDifference(lambda, row("lambda_w32_g4", 100 + i))).toBeLessThan(TOLERANCE);
    }
    runner.closeArchive(archive);
  });
});

it("an archive takes memory for the text that there is, and grows with it", () => {
  const retrieval = { k: 5, fromLayer: 1, distance: 16 };
  const long = Array.from({ length: 2500 }, (_, i) => ids[i % ids.length] ?? 0);
  const [grown, whole] = [
    withText(
      retrieval,
      (text) => {
        expect(text.archive.bytes).toBeLessThan(10_000);
        prefill(text, long.slice(0, 1000), 32);
        const before = text.archive.bytes;
        const logits = long.slice(1000, 1100).map((id) => decode(text, id));
        expect(text.archive.bytes / before).toBeCloseTo(2, 1);
        return logits.at(-1);
      },
      4,
      10_000_000,
    ),
    withText(
      retrieval,
      (text) => {
        text.archive.reserve(1100);
        prefill(text, long.slice(0, 1000), 32);
        return long
          .slice(1000, 1100)
          .map((id) => decode(text, id))
          .at(-1);
      },
      4,
      1100,
    ),
  ];
  expect(grown).toEqual(whole);
});

it("a text that would not fit into its archive is refused, and nothing is written beside it", () => {
  withText(
    { k: 5, fromLayer: 1, distance: 16 },
    (text) => {
      prefill(text, ids.slice(0, 50), 25);
      expect(() => decode(text, ids[50])).toThrow(RangeError);
    },
    4,
    50,
  );
});
