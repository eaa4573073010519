/** How logits [tokens, vocab] differ from what they should be. */
export interface LogitDifference {
  readonly largest: number;
  readonly rms: number;
  /** The largest gap between the expected first and second of a token whose first came out as another; 0: none did. */
  readonly overturned: number;
}

export function compareLogits(found: Float32Array, want: Float32Array, vocab: number): LogitDifference {
  if (found.length !== want.length) throw new RangeError(`${found.length} logits instead of ${want.length}`);
  let [largest, squares, overturned] = [0, 0, 0];
  for (let start = 0; start < want.length; start += vocab) {
    const [first, second] = firstTwo(want.subarray(start, start + vocab));
    const [ours] = firstTwo(found.subarray(start, start + vocab));
    if (ours !== first) overturned = Math.max(overturned, (want[start + first] ?? 0) - (want[start + second] ?? 0));
    for (let i = start; i < start + vocab; i++) {
      const difference = Math.abs((found[i] ?? Number.NaN) - (want[i] ?? 0));
      if (!(difference <= largest)) largest = difference;
      squares += difference ** 2;
    }
  }
  return { largest, rms: Math.sqrt(squares / want.length), overturned };
}

function firstTwo(logits: Float32Array): [number, number] {
  let [first, second] = [-1, -1];
  for (let i = 0; i < logits.length; i++) {
    if (first < 0 || (logits[i] ?? 0) > (logits[first] ?? 0)) [first, second] = [i, first];
    else if (second < 0 || (logits[i] ?? 0) > (logits[second] ?? 0)) second = i;
  }
  return [first, second];
}
