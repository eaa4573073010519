import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

const DIRECTIONS = 512;
const TOGETHER = 24;

/** Rows [rows, dIn], each of a few of many directions; of one seed they are the same. */
export function madeUpBatch(dIn: number, rows: number, seed: number): Float32Array {
  const random = numbers(1000 + seed);
  const basis = numbers(7);
  const directions = Float32Array.from({ length: DIRECTIONS * dIn }, () => basis() + basis() + basis() - 1.5);
  const x = new Float32Array(rows * dIn);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < TOGETHER; i++) {
      const direction = Math.floor(random() ** 2 * DIRECTIONS);
      const length = -Math.log(random() + 1e-9);
      for (let at = 0; at < dIn; at++) x[row * dIn + at]! += length * directions[direction * dIn + at]!;
    }
  return x;
}

/** Numbers from 0 to 1. */
function numbers(seed: number): () => number {
  const generator = xoroshiro128plus(seed);
  return () => (generator.next() >>> 0) / 2 ** 32;
}
