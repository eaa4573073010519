import { describe, expect, it } from "vitest";
import { foldedRows, quantiseChannels } from "../../../models/weights/quantise-channels.js";
import { randomWeights } from "../random-model.js";

/** Codes of a row, and those folded in behind it. */
function codesOf({ codes }: { readonly codes: Float32Array }, row: number, columns: number) {
  const length = columns + foldedRows(columns);
  const all = [...codes.subarray(row * length, (row + 1) * length)];
  return { own: all.slice(0, columns), folded: all.slice(columns) };
}

/** As weights of trained models are, most of which lie far below the largest. */
function bellShaped(count: number): Float32Array {
  const parts = [1, 2, 3, 4].map((seed) => randomWeights(count, seed, 0.3));
  return Float32Array.from({ length: count }, (_, i) => parts.reduce((total, part) => total + (part[i] ?? 0), 0));
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

describe("a row as int8", () => {
  it.each([1, 7, 100, 576, 1536])("of %i weights is within half a step of each, and sums up to zero", (columns) => {
    const values = bellShaped(3 * columns);
    const quantised = quantiseChannels(values, 3, columns);
    for (let row = 0; row < 3; row++) {
      const { own, folded } = codesOf(quantised, row, columns);
      expect(sum([...own, ...folded])).toBe(0);
      for (const code of [...own, ...folded]) expect(Number.isInteger(code) && Math.abs(code) <= 127).toBe(true);
      const scale = quantised.scales[row] ?? 0;
      expect(Math.max(...own.map(Math.abs))).toBe(127);
      for (const [i, code] of own.entries())
        expect(Math.abs(code * scale - (values[row * columns + i] ?? 0))).toBeLessThanOrEqual(scale * 0.50001);
    }
  });

  it.each([1, -1])(
    "whose weights all have one sign (%i) takes a coarser step, so that it still sums up to zero",
    (sign) => {
      const values = new Float32Array(2000).fill(sign * 0.25);
      const quantised = quantiseChannels(values, 1, 2000);
      const { own, folded } = codesOf(quantised, 0, 2000);
      expect(sum([...own, ...folded])).toBe(0);
      for (const code of [...own, ...folded]) expect(Math.abs(code)).toBeLessThanOrEqual(127);
      expect(own[0]).not.toBe(0);
      expect(Math.abs((own[0] ?? 0) * (quantised.scales[0] ?? 0) - sign * 0.25)).toBeLessThan(0.125);
    },
  );

  it("of zeros has none but zeros", () => {
    const { codes, scales } = quantiseChannels(new Float32Array(64), 2, 32);
    expect([codes.every((code) => code === 0), [...scales]]).toEqual([true, [0, 0]]);
  });
});
