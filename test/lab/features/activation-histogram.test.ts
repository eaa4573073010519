import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ActivationHistogram } from "../../../lab/features/activation-histogram.js";
import { quantile } from "../../../lab/statistics/quantiles.js";

const histogramOf = (values: Iterable<number>): ActivationHistogram => {
  const histogram = new ActivationHistogram();
  for (const value of values) histogram.add(value);
  return histogram;
};

describe("a histogram of activations", () => {
  test("tells quantiles of any positive numbers to 3 %, at any place that a number has", () => {
    const number = fc.double({ min: 1e-30, max: 1e30, noNaN: true });
    fc.assert(
      fc.property(fc.array(number, { minLength: 1, maxLength: 100 }), fc.nat(), (values, drawn) => {
        const sorted = values.toSorted((a, b) => a - b);
        const place = drawn % values.length;
        const q = values.length === 1 ? 0.5 : place / (values.length - 1);
        const exact = sorted[values.length === 1 ? 0 : place]!;
        // Rounding of q may lead to the neighbour.
        const near = [exact, ...sorted.slice(Math.max(0, place - 1), place + 2)];
        const found = histogramOf(values).quantile(q);
        expect(near.some((value) => Math.abs(found / value - 1) < 1 / 32)).toBe(true);
      }),
    );
  });

  test("tells one of the numbers that a quantile lies between", () => {
    for (const q of [0.1, 0.5, 0.75, 0.9, 0.99]) {
      const found = histogramOf([1, 50]).quantile(q);
      expect([1, 50].some((value) => Math.abs(found / value - 1) < 1 / 32)).toBe(true);
    }
  });

  test("is close to the quantile of many numbers, and exact at the largest", () => {
    const values = Float32Array.from({ length: 10_000 }, (_, i) => Math.exp(5 * Math.sin(i * i)));
    const histogram = histogramOf(values);
    const sorted = values.toSorted();
    for (const q of [0.01, 0.25, 0.5, 0.9, 0.99]) expect(histogram.quantile(q) / quantile(sorted, q)).toBeCloseTo(1, 1);
    expect([histogram.max, histogram.count]).toEqual([sorted.at(-1), 10_000]);
    expect(histogram.quantile(1)).toBeLessThanOrEqual(histogram.max);
  });

  test("of no numbers has no quantiles", () => {
    expect([new ActivationHistogram().quantile(0.5), new ActivationHistogram().max]).toEqual([Number.NaN, 0]);
  });
});
