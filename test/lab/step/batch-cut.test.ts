import { expect, test } from "vitest";
import { BatchCut } from "../../../lab/step/cut/batch-cut.js";
import { CutThreads } from "../../../lab/step/cut/cut-threads.js";
import { kthLargest } from "../../../lab/step/cut/kth-largest.js";
import type { TrainedActivation } from "../../../lab/step/step-config.js";
import { FeatureKeeper } from "../../../models/sae/kept-features.js";

const [BATCH, WIDTH] = [13, 5000];
/** How many values of two arrays differ. */
const differing = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((count, value, i) => count + (value === b[i] ? 0 : 1), 0);

type Cut = Exclude<TrainedActivation, { kind: "jumprelu" }>;

/** Few values, so that many are equal; most are 0. */
const madeUp = (seed: number, share: number): Float32Array =>
  Float32Array.from({ length: BATCH * WIDTH }, (_, i) => {
    const number = Math.abs(Math.sin(seed * 1e4 + i * 12.9898) * 43758.5453) % 1;
    return number < share ? Math.ceil((number / share) * 500) / 100 : 0;
  });

test.each([1, 3])(
  "rows are cut as an SAE's reader cuts them, equal ones too, on %i threads and whatever came before",
  (threads) => {
    for (const activation of [
      { kind: "top-afa", lambda: 1, target: "input" },
      { kind: "topk", k: 40 },
    ] satisfies Cut[]) {
      using pool = new CutThreads({ batch: BATCH, dSae: WIDTH }, threads);
      const cut = new BatchCut(pool, activation);
      const { arrays } = pool;
      arrays.norms.forEach((_, i) => {
        arrays.norms[i] = 1 + 0.2 * Math.sin(i);
      });
      const keeper = new FeatureKeeper({
        ...{ dSae: WIDTH, bEnc: null, decoderNorms: Float32Array.from(arrays.norms) },
        activation: activation.kind === "topk" ? { kind: "top-k", k: activation.k } : { kind: "top-afa" },
      });
      for (const [round, share] of [0.1, 0.1, 0.3, 0.005, 0.05].entries()) {
        arrays.activations.set(madeUp(round, share));
        arrays.lengths.forEach((_, row) => {
          arrays.lengths[row] = row === 3 ? 0 : row === 4 ? 9000 : 5 + row;
        });
        cut.cut();
        const fired = new Uint8Array(WIDTH);
        for (let row = 0; row < BATCH; row++) {
          keeper.row.set(arrays.activations.subarray(row * WIDTH, (row + 1) * WIDTH));
          const kept = keeper.keep({ kind: "native" }, arrays.lengths[row]!);
          const expected = new Float32Array(WIDTH);
          for (let i = 0; i < kept.count; i++) expected[kept.features[i]!] = kept.activations[i]!;
          expect(differing(arrays.kept.subarray(row * WIDTH, (row + 1) * WIDTH), expected)).toBe(0);
          expect(arrays.counts[row]).toBe(kept.count);
          for (const feature of kept.features.subarray(0, kept.count)) fired[feature] = 1;
        }
        expect(differing(arrays.fired, fired)).toBe(0);
      }
    }
  },
);

test("rows of which all features are active are cut as an SAE's reader cuts them", () => {
  for (const width of [2, 3, 7]) {
    using pool = new CutThreads({ batch: BATCH, dSae: width }, 1);
    const cut = new BatchCut(pool, { kind: "top-afa", lambda: 1, target: "input" });
    pool.arrays.norms.fill(1);
    const keeper = new FeatureKeeper({
      ...{ dSae: width, bEnc: null, decoderNorms: new Float32Array(width).fill(1), activation: { kind: "top-afa" } },
    });
    pool.arrays.activations.forEach((_, i) => {
      pool.arrays.activations[i] = 1 + Math.sin(i * 12.9898);
    });
    pool.arrays.lengths.forEach((_, row) => {
      pool.arrays.lengths[row] = row / 2;
    });
    cut.cut();
    const expected = Array.from({ length: BATCH }, (_, row) => {
      keeper.row.set(pool.arrays.activations.subarray(row * width, (row + 1) * width));
      return keeper.keep({ kind: "native" }, row / 2).count;
    });
    expect([...pool.arrays.counts]).toEqual(expected);
  }
});

test.each([1, 3])(
  "batch top-k keeps the largest of all rows together, on %i threads and whatever came before",
  (threads) => {
    using pool = new CutThreads({ batch: BATCH, dSae: WIDTH }, threads);
    const cut = new BatchCut(pool, { kind: "batch-topk", k: 10 });
    for (const [round, scale] of [1, 1, 100, 0.01].entries()) {
      const values = Float32Array.from(
        { length: BATCH * WIDTH },
        (_, i) => Math.max(0, Math.sin(i * (1.1 + round))) * scale,
      );
      pool.arrays.activations.set(values);
      cut.cut();
      const least = [...values].sort((a, b) => b - a)[10 * BATCH - 1]!;
      expect(
        differing(
          pool.arrays.kept,
          values.map((value) => (value >= least ? value : 0)),
        ),
      ).toBe(0);
    }
    pool.arrays.activations.fill(0).set([3, 2, 1]);
    cut.cut();
    expect(pool.arrays.kept.subarray(0, 4)).toEqual(Float32Array.of(3, 2, 1, 0));
  },
);

test("the k-th largest is found among all floats", () => {
  const values = Float32Array.from({ length: 3000 }, (_, i) => Math.abs(Math.sin(i)) * 2 ** ((i % 200) - 100));
  const sorted = [...values].sort((a, b) => b - a);
  for (const k of [1, 2, 700, 2999, 3000])
    expect(kthLargest([values.subarray(0, 1234), values.subarray(1234)], k)).toBe(sorted[k - 1]);
});
