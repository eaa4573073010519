const STEPS = 256;
const END = 32;
const TABLE = Float64Array.from({ length: STEPS * END }, (_, step) => Math.exp(-step / STEPS));
const BIN_BITS = 5;

/** Number of bins of `massByDepth`. */
export const BINS = (STEPS * END) >> BIN_BITS;
/** Depth that a bin spans. */
export const BIN_WIDTH = END / BINS;

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

/** The bin that a depth falls into; BINS or more where `decay` is 0. */
export const binOf = (depth: number): number => (depth < END ? (depth * STEPS) >> BIN_BITS : BINS);

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

/** Writes to mass[bin] the sum of exp((logit - maximum) * scale) of the logits in that bin; returns the sum of all. */
export function massByDepth(logits: Float32Array, maximum: number, scale: number, mass: Float64Array): number {
  mass.fill(0);
  const steps = scale * STEPS;
  for (let i = 0; i < logits.length; i++) {
    const scaled = (maximum - logits[i]!) * steps;
    if (!(scaled < STEPS * END)) continue;
    const step = scaled | 0;
    const rest = (scaled - step) * (1 / STEPS);
    mass[step >> BIN_BITS]! += TABLE[step]! * (1 - rest + 0.5 * rest * rest);
  }
  let sum = 0;
  for (let bin = 0; bin < BINS; bin++) sum += mass[bin]!;
  return sum;
}
