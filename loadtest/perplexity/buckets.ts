import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Positions [from, to) of a sequence, counted from 0. */
export interface Bucket {
  readonly from: number;
  readonly to: number;
}

const FIRST = 16;

/** Buckets of doubling length over the tokens that have something before them: [1, 16), [16, 32), ... up to `length`. */
export function bucketsOf(length: number): Bucket[] {
  const buckets: Bucket[] = [];
  for (let [from, to] = [1, FIRST]; from < length; [from, to] = [to, 2 * to])
    buckets.push({ from, to: Math.min(to, length) });
  return buckets;
}

/**
 * `count` positions of a bucket, ascending: one at random in each of as many equal parts; all positions where there are no
 * more. The same seed gives the same positions of the same bucket.
 */
export function samplePositions({ from, to }: Bucket, count: number, seed: number): number[] {
  const size = to - from;
  if (count >= size) return Array.from({ length: size }, (_, i) => from + i);
  const random = xoroshiro128plus(seed ^ Math.imul(from, 0x9e3779b1));
  return Array.from({ length: count }, (_, i) => {
    const [start, end] = [Math.floor((i * size) / count), Math.floor(((i + 1) * size) / count)];
    return from + start + Math.floor(uniformFloat64(random) * (end - start));
  });
}
