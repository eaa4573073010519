import { expect, test } from "vitest";
import { bucketsOf, samplePositions } from "../../../loadtest/perplexity/buckets.js";

test("buckets double, leave the first token out, and end with the sequence", () => {
  expect(bucketsOf(100)).toEqual([
    { from: 1, to: 16 },
    { from: 16, to: 32 },
    { from: 32, to: 64 },
    { from: 64, to: 100 },
  ]);
  expect(bucketsOf(2)).toEqual([{ from: 1, to: 2 }]);
  expect(bucketsOf(16)).toEqual([{ from: 1, to: 16 }]);
  expect(bucketsOf(1)).toEqual([]);
  expect(bucketsOf(1_000_000).at(-1)).toEqual({ from: 524_288, to: 1_000_000 });
});

test("sampled positions are all over a bucket, each once, the same for the same seed", () => {
  const bucket = { from: 1000, to: 2003 };
  const positions = samplePositions(bucket, 400, 7);
  expect(new Set(positions).size).toBe(400);
  expect(positions.every((position) => position >= 1000 && position < 2003)).toBe(true);
  const quarters = [0, 1, 2, 3].map((q) => positions.filter((p) => Math.floor((p - 1000) / 251) === q).length);
  for (const count of quarters) expect(count).toBeGreaterThan(70);
  expect(samplePositions(bucket, 400, 7)).toEqual(positions);
  expect(samplePositions(bucket, 400, 8)).not.toEqual(positions);
});

test("more samples are those that there were, and others", () => {
  const bucket = { from: 64, to: 128 };
  expect(samplePositions(bucket, 40, 1).slice(0, 10)).toEqual(samplePositions(bucket, 10, 1));
});

test("a bucket that has no more positions than are asked for is taken whole", () => {
  for (const count of [3, 1000])
    expect(samplePositions({ from: 3, to: 6 }, count, 1).toSorted((a, b) => a - b)).toEqual([3, 4, 5]);
});
