import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Odd, so that rounds of one seed begin with different states (Knuth's multiplicative hashing). */
const GOLDEN_RATIO = 0x9e3779b1;

/** The numbers 0 to length - 1 in an order that seed and round decide (Fisher and Yates). */
export function permutation(length: number, seed: number, round: number): Uint32Array {
  const random = xoroshiro128plus(seed ^ Math.imul(round + 1, GOLDEN_RATIO));
  const order = Uint32Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const other = uniformInt(random, 0, i);
    const kept = order[i] ?? 0;
    order[i] = order[other] ?? 0;
    order[other] = kept;
  }
  return order;
}
