import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, it } from "vitest";
import { largestFirst } from "../../../models/sae/largest-first.js";
import { topAfaCut, topKCut } from "./reference/cut.js";

const cutOf = (shares: number[], norm: number) => {
  const values = Float64Array.from(shares);
  const { k, features } = topAfaCut(values, norm, values.map(Math.sqrt));
  return { k, features: [...features].sort((a, b) => a - b) };
};

/** The authors' algorithm, word for word: everything sorted, the last running length overwritten. */
function bySorting(shares: readonly number[], norm: number): { k: number; features: number[] } {
  const order = shares.map((_, feature) => feature).sort((a, b) => (shares[b] ?? 0) - (shares[a] ?? 0) || a - b);
  let sum = 0;
  const lengths = order.map((feature) => {
    sum += shares[feature] ?? 0;
    return Math.sqrt(sum);
  });
  lengths[lengths.length - 1] = 1e4;
  const distances = lengths.map((length) => Math.abs(length - norm));
  const k = distances.indexOf(Math.min(...distances)) + 1;
  const features = order.slice(0, k).filter((feature) => (shares[feature] ?? 0) > 0);
  return { k, features: features.sort((a, b) => a - b) };
}

describe("the cut of top-AFA", () => {
  it("is the one of a full sort, whatever the shares and the norm", () => {
    const random = xoroshiro128plus(4);
    const below = (limit: number) => (random.next() >>> 0) % limit;
    for (let round = 0; round < 1000; round++) {
      const width = 1 + below(40);
      // Few different values: many ties and zeros.
      const shares = Array.from({ length: width }, () => (below(3) === 0 ? 0 : below(1 + (round % 7)) ** 2));
      const total = Math.sqrt(shares.reduce((sum, share) => sum + share, 0));
      const norms = [0, total, (total * below(100)) / 80, 9000 + below(2000), 1e6, 5000, 5000.5];
      for (const norm of norms)
        expect(cutOf(shares, norm), JSON.stringify({ shares, norm })).toEqual(bySorting(shares, norm));
    }
  });

  it("keeps one place of a zero vector, and no feature", () =>
    expect(cutOf([0, 0, 0], 0)).toEqual({ k: 1, features: [] }));

  it("takes the lower of two cuts that are equally near", () => {
    // Running lengths 3, 4, 4: 3.5 is as far from 3 as from 4.
    expect(cutOf([9, 7, 0, 0], 3.5)).toEqual({ k: 1, features: [0] });
  });

  it("takes the lowest features of equal ones", () =>
    expect(cutOf([4, 4, 4, 4, 4], 2.7)).toEqual({ k: 2, features: [0, 1] }));

  it("stops where the lengths stop growing", () =>
    expect(cutOf([9, 16, 0, 0, 0], 100)).toEqual({ k: 2, features: [0, 1] }));

  it("keeps everything where the forced last length is nearest", () => {
    expect(cutOf([9, 16, 0, 0, 0], 5003)).toEqual({ k: 5, features: [0, 1] });
    expect(cutOf([9, 16, 0, 0, 0], 5002).k).toBe(2);
  });

  it("does not know the true length of all together", () =>
    expect(cutOf([1, 1, 1, 1], 2)).toEqual({ k: 3, features: [0, 1, 2] }));

  it("survives a norm that is not a number", () => {
    expect(cutOf([Number.NaN, Number.NaN], Number.NaN)).toEqual({ k: 1, features: [] });
    expect(cutOf([1, 4], Number.POSITIVE_INFINITY).k).toBe(1);
  });
});

describe("the largest first", () => {
  it("come in order, equal ones by index, and never a zero", () => {
    const next = largestFirst(Float64Array.from([0, 3, 1, 3, -5, Number.NaN, 2]));
    expect([next(), next(), next(), next(), next(), next()]).toEqual([1, 3, 6, 2, undefined, undefined]);
  });

  it("are what top-k keeps", () => {
    expect(topKCut(Float64Array.from([1, 5, 5, 5, 0]), 2).features).toEqual([1, 2]);
    expect(topKCut(Float64Array.from([1, 0, 0]), 2)).toEqual({ k: 1, features: [0] });
  });
});
