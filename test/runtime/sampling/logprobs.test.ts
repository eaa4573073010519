import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { expect, test } from "vitest";
import { NotFiniteLogits } from "../../../runtime/sampling/finite-logits.js";
import { rankOf, tokenLogprobs } from "../../../runtime/sampling/logprobs.js";

function randomLogits(vocab: number, seed: number, spread: number): Float32Array {
  const random = xoroshiro128plus(seed);
  return Float32Array.from({ length: vocab }, () => spread * (uniformFloat64(random) - 0.5));
}

function exact(logits: Float32Array): number[] {
  const maximum = logits.reduce((a, b) => Math.max(a, b));
  const normaliser = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - maximum), 0));
  return Array.from(logits, (logit) => logit - maximum - normaliser);
}

test.each([
  [5, 3],
  [997, 40],
  [4096, 10],
  [4096, 200],
])("is the log-softmax of %d logits over a range of %d", (vocab, spread) => {
  const logits = randomLogits(vocab, 1, spread);
  const expected = exact(logits);
  for (const id of [0, 1, 2, vocab - 1]) {
    expect(Math.abs(tokenLogprobs(logits, id, 0).logprob - expected[id]!)).toBeLessThan(2e-8);
  }
});

test("lists the most likely tokens, best first", () => {
  for (let seed = 0; seed < 20; seed++) {
    const logits = randomLogits(501 + seed, seed, 8);
    const expected = exact(logits);
    const order = [...expected.keys()].sort((a, b) => expected[b]! - expected[a]! || a - b);
    for (const n of [0, 1, 5, 20]) {
      const { top } = tokenLogprobs(logits, 0, n);
      expect(top.map(({ tokenId }) => tokenId)).toEqual(order.slice(0, n));
      for (const { tokenId, logprob } of top) expect(Math.abs(logprob - expected[tokenId]!)).toBeLessThan(2e-8);
    }
  }
});

test("a token's rank is its place in the list of all", () => {
  const logits = randomLogits(301, 3, 8).map((logit) => Math.round(logit));
  logits[7] = Number.NEGATIVE_INFINITY;
  const { top } = tokenLogprobs(logits, 0, logits.length);
  for (const [place, { tokenId }] of top.entries()) expect(rankOf(logits, tokenId)).toBe(place + 1);
});

test("of equally likely tokens the lower ids come first", () => {
  const logits = new Float32Array(100).fill(1);
  logits[70] = 2;
  expect(tokenLogprobs(logits, 0, 4).top.map(({ tokenId }) => tokenId)).toEqual([70, 0, 1, 2]);
  expect(tokenLogprobs(Float32Array.of(1, 3, 3, 2, 3, 3), 0, 3).top.map(({ tokenId }) => tokenId)).toEqual([1, 2, 4]);
});

test("a token that is ruled out has -Infinity, and more are not listed than there are", () => {
  const { logprob, top } = tokenLogprobs(Float32Array.of(0, -Infinity, 0), 1, 20);
  expect(logprob).toBe(-Infinity);
  expect(top.map(({ tokenId }) => tokenId)).toEqual([0, 2, 1]);
  expect(top[0]!.logprob).toBeCloseTo(-Math.LN2, 8);
});

test.each([Number.NaN, Infinity])("refuses logits with %d", (bad) => {
  const logits = randomLogits(101, 1, 1);
  logits[77] = bad;
  expect(() => tokenLogprobs(logits, 0, 1)).toThrow(NotFiniteLogits);
});
