import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fitLogistic } from "../../../lab/probe/logistic-regression.js";

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

describe("logistic regression", () => {
  test("ends where the gradient is 0, for any samples of two classes", () => {
    const sample = fc.record({
      values: fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 3, maxLength: 3 }),
      isPositive: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(sample, { minLength: 2, maxLength: 40 }), (drawn) => {
        const isPositive = drawn.map((each) => each.isPositive);
        fc.pre(new Set(isPositive).size === 2);
        const samples = drawn.map(({ values }) => Float64Array.from(values));
        const { weights, intercept } = fitLogistic({ samples, isPositive, c: 1 });
        const errors = samples.map(
          (values, n) =>
            sigmoid(values.reduce((sum, value, i) => sum + value * weights[i]!, intercept)) - Number(isPositive[n]),
        );
        const gradient = [...weights].map(
          (weight, i) => weight + errors.reduce((sum, error, n) => sum + error * samples[n]![i]!, 0),
        );
        gradient.push(errors.reduce((sum, error) => sum + error, 0));
        for (const slope of gradient) expect(Math.abs(slope)).toBeLessThan(1e-12);
      }),
    );
  });

  test("has an answer where one number tells the classes apart", () => {
    const samples = [-2, -1, 1, 2].map((value) => Float64Array.of(value));
    const { weights, intercept } = fitLogistic({ samples, isPositive: [false, false, true, true], c: 1e6 });
    expect(weights[0]).toBeGreaterThan(5);
    expect(intercept).toBeCloseTo(0, 9);
  });

  test("of samples of one class has none", () => {
    expect(() => fitLogistic({ samples: [Float64Array.of(1)], isPositive: [true], c: 1 })).toThrow(RangeError);
  });
});
