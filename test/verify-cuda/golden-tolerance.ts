import { compareLogits } from "../logit-difference.js";
import type { GpuPrecision } from "./ceilings.js";
import type { Goal } from "./findings.js";

/** What one rounding changes at most, relative to the number. */
const ROUNDING: Readonly<Record<GpuPrecision, number>> = { f32: 2 ** -24, f16: 2 ** -11, bf16: 2 ** -8 };
/** Largest difference of any logit in f32. */
const ABSOLUTE = 1e-3;
/**
 * In 16 bits every result of every operation is rounded, a dozen in each layer, and roundings add up as random numbers do:
 * sqrt(12 x 6 layers) = 8.5 of them for the golden models, seen on a CPU 2 to 7. Twice that is allowed in the mean. Of
 * 100,000 logits the largest difference is 4.5 deviations, and attention makes some tokens more sensitive than others: seen
 * 63 roundings, allowed 128.
 */
const [MEAN, LARGEST] = [16, 128];

/** How far logits are from a golden's. */
export interface Differences {
  readonly largest: number;
  /** Relative to the rms of the expected logits. */
  readonly rms: number;
  /** The largest gap between first and second of a token whose first came out as another. */
  readonly overturned: number;
  /** Of the expected logits. */
  readonly scale: number;
}

export function differences(found: Float32Array, want: Float32Array, vocab: number): Differences {
  const { largest, rms, overturned } = compareLogits(found, want, vocab);
  const scale = Math.sqrt(want.reduce((sum, each) => sum + each ** 2, 0) / want.length);
  return { largest, rms: rms / scale, overturned, scale };
}

export const worst = (all: readonly Differences[]): Differences => ({
  largest: largestOf(all.map(({ largest }) => largest)),
  rms: largestOf(all.map(({ rms }) => rms)),
  overturned: largestOf(all.map(({ overturned }) => overturned)),
  scale: Math.min(...all.map(({ scale }) => scale)),
});

export function goalFor(precision: GpuPrecision, { largest, rms, scale }: Differences): Goal {
  if (precision === "f32") return { goal: `largest <= ${ABSOLUTE}`, met: Number.isFinite(rms) && largest <= ABSOLUTE };
  const rounding = ROUNDING[precision];
  const [mean, most] = [MEAN * rounding, LARGEST * rounding];
  return {
    goal: `rms <= ${(100 * mean).toFixed(2)} %, largest <= ${(100 * most).toFixed(1)} % of the rms`,
    met: rms <= mean && largest <= most * scale,
  };
}

const largestOf = (values: readonly number[]): number => Math.max(...values);
