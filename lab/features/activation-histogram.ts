/** Bins of an octave: a bin is 1/32 of its octave's lower end wide. */
const BINS = 32;
/** Bits of a float32 behind those that tell its octave and bin: 23 of the mantissa, of which 5 are the bin. */
const REST = 18;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/**
 * Quantiles of many positive numbers in little memory: counts in 32 bins an octave, so that a quantile is off by 3 % at most,
 * in whatever order the numbers come. An octave without a number takes nothing; a feature of an SAE seldom has more than 12.
 */
export class ActivationHistogram {
  #count = 0;
  #max = 0;
  /** By exponent, [BINS] each. */
  readonly #octaves: (Uint32Array | undefined)[] = [];

  get count(): number {
    return this.#count;
  }

  /** 0 of no numbers. */
  get max(): number {
    return this.#max;
  }

  /** @param value above 0 */
  add(value: number): void {
    float[0] = value;
    const place = bits[0]! >>> REST;
    const octave = (place / BINS) | 0;
    this.#octaves[octave] ??= new Uint32Array(BINS);
    this.#octaves[octave][place % BINS]! += 1;
    this.#count += 1;
    if (float[0] > this.#max) this.#max = float[0];
  }

  /** The number at the place nearest to (count - 1) q in rising order, as well as the bins tell it. NaN of no numbers. */
  quantile(q: number): number {
    const place = Math.round((this.#count - 1) * q);
    let below = 0;
    for (const [octave, counts] of this.#octaves.entries())
      for (const [bin, count] of counts?.entries() ?? []) {
        if (below + count > place) {
          const [from, to] = [edge(octave * BINS + bin), edge(octave * BINS + bin + 1)];
          return Math.min(from + ((to - from) * (place - below + 0.5)) / count, this.#max);
        }
        below += count;
      }
    return this.#count === 0 ? Number.NaN : this.#max;
  }
}

/** Where a bin begins. */
function edge(place: number): number {
  bits[0] = place << REST;
  return float[0]!;
}
