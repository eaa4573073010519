import { uniformInt } from "pure-rand/distribution/uniformInt";
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
 * `count` positions of a bucket at random, each once; all where there are no more. The same seed gives the same positions in
 * the same order, so that a larger count adds to a smaller one.
 */
export function samplePositions({ from, to }: Bucket, count: number, seed: number): number[] {
  const random = xoroshiro128plus(seed ^ Math.imul(from, 0x9e3779b1));
  const positions = Int32Array.from({ length: to - from }, (_, i) => from + i);
  const taken = Math.min(count, positions.length);
  for (let i = 0; i < taken; i++) {
    const other = uniformInt(random, i, positions.length - 1);
    [positions[i], positions[other]] = [positions[other] ?? 0, positions[i] ?? 0];
  }
  return [...positions.subarray(0, taken)];
}
