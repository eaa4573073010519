import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, it } from "vitest";
import type { Activating } from "../../../models/sae/active-features.js";
import { FeatureKeeper } from "../../../models/sae/kept-features.js";
import type { SaeActivation } from "../../../models/sae/sae.js";
import { nativeCut } from "./reference/cut.js";

const random = xoroshiro128plus(11);
const below = (limit: number) => (random.next() >>> 0) % limit;
const row = (width: number, value: () => number) => Float32Array.from({ length: width }, value);

const saeOf = (activation: SaeActivation, dSae: number, more: Partial<Activating> = {}): Activating => ({
  dSae,
  activation,
  bEnc: null,
  decoderNorms: new Float32Array(dSae).fill(1),
  ...more,
});

/** What a keeper keeps of a row of products, by feature. */
function keep(sae: Activating, products: Float32Array, norm: number) {
  const keeper = new FeatureKeeper(sae);
  // Twice, because the memory of the row before is used again.
  keeper.row.fill(1e9);
  keeper.keep({ kind: "native" }, 1e20);
  keeper.row.set(products);
  const { count, features, activations, sizes, squares } = keeper.keep({ kind: "native" }, norm);
  const order = [...features.subarray(0, count).keys()].sort((a, b) => features[a]! - features[b]!);
  return {
    features: order.map((i) => features[i]!),
    activations: order.map((i) => activations[i]!),
    sizes: order.map((i) => sizes[i]!),
    squares,
  };
}

/** The same by the cut of the reference, which has a heap of all. */
function expected({ activation, decoderNorms }: Activating, products: Float32Array, norm: number): number[] {
  const activations = Float64Array.from(products, (value) => Math.max(value, 0));
  const shares = activations.map((value, i) => Math.fround(value * (decoderNorms[i] ?? 0)) ** 2);
  return [...nativeCut(activation, shares, norm, activations).features].sort((a, b) => a - b);
}

const TOP_AFA: SaeActivation = { kind: "top-afa" };

describe("what is kept of a row without sorting it", () => {
  it("is what the reference keeps, where many values are equal, and at every norm", () => {
    for (let round = 0; round < 400; round++) {
      const width = 1 + below(60);
      const products = row(width, () => below(1 + (round % 9)) - 2);
      const total = Math.hypot(...products.map((value) => Math.max(value, 0)));
      for (const norm of [0, total, (total * below(100)) / 80, 5000, 5000.5, 9000 + below(2000), 1e6])
        expect(keep(saeOf(TOP_AFA, width), products, norm).features, `${products} at ${norm}`).toEqual(
          expected(saeOf(TOP_AFA, width), products, norm),
        );
      for (const k of [1, 1 + below(width), width]) {
        const sae = saeOf({ kind: "top-k", k }, width);
        expect(keep(sae, products, 1).features, `${products}, k ${k}`).toEqual(expected(sae, products, 1));
      }
    }
  });

  it("is what the reference keeps of rows with many thousand active features", () => {
    const width = 13_000;
    const decoderNorms = row(width, () => 0.5 + below(1000) / 1000);
    for (const spread of [1, 6, 30]) {
      const products = row(width, () => (below(8) === 0 ? -1 : 1) * 10 ** ((spread * (below(1e6) - 5e5)) / 1e6));
      const total = Math.hypot(...Array.from(products, (value, i) => Math.max(value, 0) * (decoderNorms[i] ?? 0)));
      for (const share of [0, 0.1, 0.5, 0.9, 0.999]) {
        const sae = saeOf(TOP_AFA, width, { decoderNorms });
        expect(keep(sae, products, share * total).features).toEqual(expected(sae, products, share * total));
      }
      for (const k of [1, 700, 5000, 11_000, 13_000]) {
        const sae = saeOf({ kind: "top-k", k }, width);
        expect(keep(sae, products, 1).features).toEqual(expected(sae, products, 1));
      }
    }
  });

  it("is one feature of each group", () => {
    const products = row(60, () => below(9) - 4);
    for (const groups of [1, 6, 20, 60]) {
      const sae = saeOf({ kind: "group-max", groups }, 60);
      expect(keep(sae, products, 1).features).toEqual(expected(sae, products, 1));
    }
  });

  it("comes with activations, and their sizes with decoder rows of any length", () => {
    const decoderNorms = Float32Array.from([1, 2, 3, 0.5, 0]);
    const bEnc = Float32Array.from([0, 0, 1, 0, 0]);
    const kept = keep(saeOf({ kind: "relu" }, 5, { decoderNorms, bEnc }), Float32Array.from([-1, 2, 3, 0, 7]), 1);
    expect(kept).toEqual({ features: [1, 2, 4], activations: [2, 4, 7], sizes: [4, 12, 0], squares: 160 });
  });

  it("is nothing that is not a number, and the largest where the norm is none", () => {
    const products = Float32Array.from([Number.NaN, 1, -0, Number.POSITIVE_INFINITY, -Number.NaN, 2]);
    const bits = new Int32Array(products.buffer);
    bits[4]! |= 1 << 31; // as processors write NaN
    expect(keep(saeOf({ kind: "relu" }, 6), products, 1).features).toEqual([1, 3, 5]);
    expect(keep(saeOf(TOP_AFA, 6), products, 1).features).toEqual(expected(saeOf(TOP_AFA, 6), products, 1));
    for (const norm of [Number.NaN, Number.POSITIVE_INFINITY])
      expect(keep(saeOf(TOP_AFA, 6), Float32Array.from([0, 1, 3, 2, 0, 0]), norm).features).toEqual([2]);
  });
});
