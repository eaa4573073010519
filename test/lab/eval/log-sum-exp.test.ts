import { expect, it } from "vitest";
import { logSumExp } from "../../../lab/eval/log-sum-exp.js";

it("is the logarithm of a sum of exponentials, however far the values lie apart", () => {
  const wave = (scale: number, offset = 0) =>
    Float32Array.from({ length: 5000 }, (_, i) => offset + scale * Math.sin(i * 1.7) * Math.cos(i ** 1.5));
  const rows = [wave(1), wave(30), wave(1e4), wave(3, 500), wave(3, -5e30), Float32Array.of(-3), new Float32Array(7)];
  for (const row of rows) {
    const largest = Math.max(...row);
    const want = largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
    expect(Math.abs(logSumExp(row) - want)).toBeLessThanOrEqual(1e-12 * Math.max(1, Math.abs(want)));
  }
  for (const broken of [
    [1, Number.NaN, 2],
    [Number.NaN, Number.NaN],
    [1, Number.POSITIVE_INFINITY],
  ])
    expect(logSumExp(Float32Array.from(broken))).toBeNaN();
});
