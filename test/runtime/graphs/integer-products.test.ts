import { describe, expect, it } from "vitest";
import { foldedRows, quantiseChannels } from "../../../models/weights/quantise-channels.js";
import { randomWeights } from "../../models/random-model.js";
import { linear } from "./linear-product.js";

const OUT = 64;

/** Rows whose sizes differ by far, some all of one sign, the first all zeros. */
function activations(rows: number, columns: number): Float32Array {
  const x = randomWeights(rows * columns, 5, 2);
  for (const i of x.keys()) {
    const row = Math.floor(i / columns);
    const value = (x[i] ?? 0) * 10 ** ((row % 7) - 3);
    x[i] = row === 0 ? 0 : row % 3 === 1 ? Math.abs(value) : row % 3 === 2 && row % 2 === 0 ? -Math.abs(value) : value;
  }
  return x;
}

/** The product as it is defined: sums of integers, scaled by the column's step and then by the row's. */
function reference(x: Float32Array, weights: Float32Array, columns: number): Float32Array {
  const { codes, scales } = quantiseChannels(weights, OUT, columns);
  const length = columns + foldedRows(columns);
  const rows = x.length / columns;
  const found = new Float32Array(rows * OUT);
  for (let row = 0; row < rows; row++) {
    const own = x.subarray(row * columns, (row + 1) * columns);
    const [low, high] = [Math.min(0, ...own), Math.max(0, ...own)];
    const scale = Math.max(Math.fround(Math.fround(high - low) / 255), Math.fround(1e-30));
    for (let out = 0; out < OUT; out++) {
      let sum = 0;
      for (const [k, value] of own.entries())
        sum += roundEven(Math.fround(value / scale)) * (codes[out * length + k] ?? 0);
      found[row * OUT + out] = Math.fround(sum * (scales[out] ?? 0)) * scale;
    }
  }
  return found;
}

const roundEven = (value: number): number => {
  const down = Math.floor(value);
  return value - down === 0.5 ? down + (down % 2) : Math.round(value);
};

describe("a multiplication of integers", () => {
  it.each([
    { rows: 1, columns: 192 },
    { rows: 9, columns: 65 },
    { rows: 33, columns: 576 },
    { rows: 70, columns: 1536 },
  ])("of $rows rows of $columns is that of the rounded matrices, to the last bits", async ({ rows, columns }) => {
    const x = activations(rows, columns);
    const weights = randomWeights(OUT * columns, 1, 0.2);
    const found = await linear(x, [weights.subarray(0, 40 * columns), weights.subarray(40 * columns)], columns, "int8");
    const want = reference(x, weights, columns);
    // Where a quotient lies within a rounding of x.5, one code may differ by 1.
    const apart = found.filter((value, i) => Math.abs(value - (want[i] ?? 0)) > 1e-6 * Math.abs(want[i] ?? 0)).length;
    expect(apart / found.length).toBeLessThan(0.02);
    expect(found.subarray(0, OUT).every((value) => value === 0)).toBe(true);
  });

  it("gives a row the bits that it has alone, whatever stands beside it", async () => {
    const columns = 576;
    const x = activations(33, columns);
    const weights = [randomWeights(OUT * columns, 3, 0.2)];
    const together = await linear(x, weights, columns, "int8");
    for (const row of [0, 1, 5, 32]) {
      const alone = await linear(x.slice(row * columns, (row + 1) * columns), weights, columns, "int8");
      expect(alone).toEqual(together.slice(row * OUT, (row + 1) * OUT));
    }
  });
});
