/** How two lists of float32 differ, bit for bit. */
export interface BitDifference {
  readonly differing: number;
  readonly size: number;
  /** Largest absolute difference; Infinity where one of the two is NaN. */
  readonly largest: number;
}

/** Compares bits: 0 and -0 differ, and so do two NaN of different bits. */
export function bitDifference(a: Float32Array, b: Float32Array): BitDifference {
  if (a.length !== b.length) throw new RangeError(`${a.length} values against ${b.length}`);
  const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
  const [left, right] = [bits(a), bits(b)];
  let [differing, largest] = [0, 0];
  for (let i = 0; i < left.length; i++) {
    if (left[i] === right[i]) continue;
    differing++;
    const apart = Math.abs((a[i] ?? 0) - (b[i] ?? 0));
    if (!(apart <= largest)) largest = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : apart;
  }
  return { differing, size: left.length, largest };
}

/** The sum of two comparisons. */
export const together = (a: BitDifference, b: BitDifference): BitDifference => ({
  differing: a.differing + b.differing,
  size: a.size + b.size,
  largest: Math.max(a.largest, b.largest),
});

export const NOTHING_COMPARED: BitDifference = { differing: 0, size: 0, largest: 0 };
