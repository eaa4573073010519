const STEPS = 256;
const END = 32;
const TABLE = Float64Array.from({ length: STEPS * END }, (_, step) => Math.exp(-step / STEPS));
const STEPS_PER_BIN_BITS = 3;
const NEAR = 8;

/** Number of bins of `massByDepth`: 256 equal ones, and one for all that is deeper than 8. */
export const BINS = ((STEPS * NEAR) >> STEPS_PER_BIN_BITS) + 1;

/**
 * exp(-depth) for depth >= 0 with a relative error below 1e-8, falling strictly until 32, 0 from there on (100,000 tokens of
 * e^-32 are 1.3e-9 of the most likely one). Table and parabola: 5 times as fast as Math.exp, which takes 1 ms for 49,152.
 */
export function decay(depth: number): number {
  if (!(depth < END)) return 0;
  const scaled = depth * STEPS;
  const step = scaled | 0;
  const rest = (scaled - step) * (1 / STEPS);
  return TABLE[step]! * (1 - rest + 0.5 * rest * rest);
}

/** The bin that a depth falls into. */
export const binOf = (depth: number): number => (depth < NEAR ? (depth * STEPS) >> STEPS_PER_BIN_BITS : BINS - 1);

/** A depth that all of a bin stay above. */
export const binEnd = (bin: number): number => (bin < BINS - 1 ? (bin + 1) * (NEAR / (BINS - 1)) : END);

/** Sum of exp(logit - maximum). */
export function decaySum(logits: Float32Array, maximum: number): number {
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += decay(maximum - logits[i]!);
  return sum;
}

/** out[i] = exp((logits[i] - maximum) * scale); returns their sum. */
export function decayAll(logits: Float32Array, maximum: number, scale: number, out: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    const value = decay((maximum - logits[i]!) * scale);
    out[i] = value;
    sum += value;
  }
  return sum;
}

/** mass[bin] = sum of exp((logit - maximum) * scale) of the logits in that bin; returns the sum of all. */
export function massByDepth(logits: Float32Array, maximum: number, scale: number, mass: Float64Array): number {
  mass.fill(0);
  let sum = 0;
  let near = 0;
  for (let i = 0; i < logits.length; i++) {
    const depth = (maximum - logits[i]!) * scale;
    const value = decay(depth);
    sum += value;
    // Most tokens are far from the best: a plain sum of those saves a quarter of the time.
    if (!(depth < NEAR)) continue;
    mass[binOf(depth)]! += value;
    near += value;
  }
  mass[BINS - 1] = sum - near;
  return sum;
}
