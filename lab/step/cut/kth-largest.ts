/** Bits of a positive float32 below its sign, told apart in three rounds. */
const ROUNDS = [
  { shift: 20, bits: 11 },
  { shift: 10, bits: 10 },
  { shift: 0, bits: 10 },
] as const;

/**
 * The k-th largest of the positive values of some arrays, which hold k or more. A radix select: the order of positive floats is
 * that of their bits.
 */
export function kthLargest(arrays: readonly Float32Array[], k: number): number {
  const words = arrays.map(({ buffer, byteOffset, length }) => new Int32Array(buffer, byteOffset, length));
  let [prefix, known, left] = [0, 31, k];
  for (const { shift, bits } of ROUNDS) {
    const counts = new Int32Array(2 ** bits);
    for (const part of words)
      for (const word of part) if (word >> known === prefix) counts[(word >> shift) & (counts.length - 1)]!++;
    let bucket = counts.length - 1;
    for (; bucket > 0 && counts[bucket]! < left; bucket--) left -= counts[bucket]!;
    prefix = (prefix << bits) | bucket;
    known = shift;
  }
  return new Float32Array(Int32Array.of(prefix).buffer)[0] ?? 0;
}
