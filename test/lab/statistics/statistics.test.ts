import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { frontier } from "../../../lab/statistics/frontier.js";
import { quantile } from "../../../lab/statistics/quantiles.js";
import { twoSided, welchTest } from "../../../lab/statistics/welch.js";
import { goldenFolder } from "../../golden-tensors.js";

const { welch, frontier: frontiers } = z
  .object({
    welch: z.object({
      series: z.record(z.string(), z.array(z.number())),
      tests: z.array(z.object({ first: z.string(), second: z.string(), t: z.number(), df: z.number(), p: z.number() })),
      p_of_t: z.array(z.object({ t: z.number(), df: z.number(), p: z.number() })),
    }),
    frontier: z.array(z.object({ points: z.array(z.tuple([z.number(), z.number()])), frontier: z.array(z.number()) })),
  })
  .parse(JSON.parse(readFileSync(join(goldenFolder("sae-eval"), "statistics.json"), "utf8")));

/** |value - expected| relative to the expected value. */
const deviation = (value: number, expected: number): number =>
  value === expected ? 0 : Math.abs(value - expected) / Math.abs(expected);

describe("Welch's test", () => {
  test.each(welch.tests)("of $first against $second is that of scipy", ({ first, second, t, df, p }) => {
    const result = welchTest(welch.series[first] ?? [], welch.series[second] ?? []);
    expect(deviation(result.t, t)).toBeLessThan(1e-9);
    expect(deviation(result.df, df)).toBeLessThan(1e-9);
    expect(deviation(result.p, p)).toBeLessThan(1e-9);
  });

  test("knows p down to 1e-93, for any degrees of freedom", () => {
    expect(welch.p_of_t.length).toBeGreaterThan(20);
    for (const { t, df, p } of welch.p_of_t)
      expect([t, df, deviation(twoSided(t, df), p) < 1e-9]).toEqual([t, df, true]);
  });

  test.each([
    { about: "a series of one value", first: [1], second: [1, 2, 3] },
    { about: "no values", first: [1, 2], second: [] },
    { about: "constants", first: [2, 2, 2], second: [3, 3] },
  ])("of $about says nothing", ({ first, second }) => {
    expect(welchTest(first, second)).toEqual({ t: Number.NaN, df: Number.NaN, p: Number.NaN });
  });
});

describe("the frontier", () => {
  test.each(frontiers)("of case %#", ({ points, frontier: expected }) => {
    expect(frontier(points.map(([l0, mse]) => ({ l0, mse })))).toEqual(expected);
  });

  test("holds every point that no other beats, and only these", () => {
    const point = fc.record({ l0: fc.integer({ min: 0, max: 9 }), mse: fc.integer({ min: 0, max: 9 }) });
    fc.assert(
      fc.property(fc.array(point, { maxLength: 30 }), (points) => {
        const isBeaten = ({ l0, mse }: (typeof points)[number]) =>
          points.some((other) => other.l0 <= l0 && other.mse <= mse && (other.l0 < l0 || other.mse < mse));
        const expected = points.flatMap((each, number) => (isBeaten(each) ? [] : [number]));
        expect(frontier(points).toSorted((a, b) => a - b)).toEqual(expected);
      }),
    );
  });
});

describe("a quantile", () => {
  test("lies between two numbers, by the distance from each", () => {
    const sorted = Float32Array.of(1, 2, 4, 8);
    expect([0, 0.25, 0.5, 0.9, 1].map((q) => quantile(sorted, q))).toEqual([1, 1.75, 3, expect.closeTo(6.8, 12), 8]);
  });

  test("of one number is that number, and of none NaN", () => {
    expect(quantile([3], 0.7)).toBe(3);
    expect(quantile([], 0.5)).toBeNaN();
  });
});
