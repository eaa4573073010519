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

test("sampled positions are one of each equal part of a bucket, and the same for the same seed", () => {
  const bucket = { from: 1000, to: 2003 };
  const positions = samplePositions(bucket, 100, 7);
  expect(positions).toHaveLength(100);
  for (const [i, position] of positions.entries()) {
    expect(position).toBeGreaterThanOrEqual(1000 + Math.floor((i * 1003) / 100));
    expect(position).toBeLessThan(1000 + Math.floor(((i + 1) * 1003) / 100));
  }
  expect(samplePositions(bucket, 100, 7)).toEqual(positions);
  expect(samplePositions(bucket, 100, 8)).not.toEqual(positions);
});

test("a bucket that has no more positions than are asked for is taken whole", () => {
  expect(samplePositions({ from: 3, to: 6 }, 3, 1)).toEqual([3, 4, 5]);
  expect(samplePositions({ from: 3, to: 6 }, 1000, 1)).toEqual([3, 4, 5]);
});
