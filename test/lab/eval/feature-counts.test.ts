import { expect, it } from "vitest";
import { EpsLboSums } from "../../../lab/eval/eps-lbo.js";
import { FeatureCounts } from "../../../lab/eval/feature-counts.js";
import { Reservoir } from "../../../lab/eval/reservoir.js";

it("counts features by token and by context, and puts densities at the ends into the outer bins", () => {
  const rows = 20_000;
  // Feature 0 is active everywhere, feature 1 at one token, feature 2 in every second token, feature 3 nowhere.
  const lists = Array.from({ length: rows }, (_, row) => [0, ...(row === 7 ? [1] : []), ...(row % 2 === 0 ? [2] : [])]);
  const counts = new FeatureCounts(4);
  const starts = new Uint32Array(rows + 1);
  let end = 0;
  for (const [row, list] of lists.entries()) starts[row + 1] = end += list.length;
  const none = new Float64Array(rows);
  const numbers = { factors: none, scales: none, shifts: none, norms: none, squares: none, cuts: null };
  const features = Uint32Array.from(lists.flat());
  const activations = new Float32Array(features.length).fill(1);
  counts.add({ rows, starts, features, activations, ...numbers }, (row) => Math.floor(row / 100));
  const result = counts.result;
  expect([...result.counts]).toEqual([rows, 1, rows / 2, 0]);
  expect([...result.contexts]).toEqual([200, 1, 200, 0]);
  expect([result.alive, result.aliveShare, result.neverActive]).toEqual([3, 0.75, 1]);
  // 1 is in the last bin, 0.5 in [10^-0.5, 10^-0.25), and 1 / 20,000 in [10^-4.5, 10^-4.25).
  expect([...result.histogram.entries()].filter(([, count]) => count > 0)).toEqual([
    [10, 1],
    [26, 1],
    [27, 1],
  ]);
  expect([result.over1Percent, result.over10Percent]).toEqual([0.5, 0.5]);
  expect(result.weightOver1Percent).toBeCloseTo(1.5 / (1.5 + 1 / rows), 12);
});

it("keeps all that a reservoir has room for, and of more an even sample, the same each time", () => {
  const sampled = () => {
    const reservoir = new Reservoir(1000, 2);
    for (let i = 0; i < 20_000; i++) reservoir.add(i, -i);
    return reservoir;
  };
  const small = new Reservoir(1000);
  for (let i = 0; i < 10; i++) small.add(i);
  expect([...small.values]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const { values, seen } = sampled();
  expect([values.length, seen]).toEqual([2000, 20_000]);
  const firsts = Array.from({ length: 1000 }, (_, i) => values[2 * i]!);
  for (const [i, first] of firsts.entries()) expect(values[2 * i + 1]).toBe(-first);
  expect(new Set(firsts).size).toBe(1000);
  expect(firsts.reduce((sum, value) => sum + value, 0) / 1000).toBeGreaterThan(9000);
  expect(firsts.reduce((sum, value) => sum + value, 0) / 1000).toBeLessThan(11_000);
  expect(sampled().values).toEqual(values);
});

it("leaves tokens without features out of eps_LBO, and has none where all are", () => {
  const sums = new EpsLboSums();
  sums.add(Float64Array.of(Number.NaN, 3, 1, Number.NaN, 2));
  const { without, mean, quantiles } = sums.result;
  expect([without, mean, quantiles[0], quantiles[4], quantiles[8]]).toEqual([2, 2, 1, 2, 3]);
  const none = new EpsLboSums();
  none.add(Float64Array.of(Number.NaN));
  expect([none.result.without, none.result.mean, none.result.quantiles[4]]).toEqual([1, Number.NaN, Number.NaN]);
});
