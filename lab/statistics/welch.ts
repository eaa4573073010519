// Required, not imported: its WebAssembly is then there at once, and its types are found.
import cephes = require("cephes");

import { mean, sampleVariance } from "simple-statistics";

/** Result of Welch's test of whether two means differ. */
export interface WelchTest {
  /** Below 0 where the first mean is smaller. */
  readonly t: number;
  /** Degrees of freedom, by Welch and Satterthwaite. */
  readonly df: number;
  /** Two-sided. */
  readonly p: number;
}

/**
 * Welch's t-test (Welch 1947, Biometrika 34), for two series of unequal variance and length.
 * t = (mean_1 - mean_2) / sqrt(v_1 / n_1 + v_2 / n_2), v unbiased. All three numbers are NaN where a series has fewer than two
 * values, or both are constant: then nothing can be said.
 */
export function welchTest(first: readonly number[], second: readonly number[]): WelchTest {
  if (first.length < 2 || second.length < 2) return UNKNOWN;
  const [a, b] = [sampleVariance([...first]) / first.length, sampleVariance([...second]) / second.length];
  if (a + b === 0) return UNKNOWN;
  const t = (mean([...first]) - mean([...second])) / Math.sqrt(a + b);
  const df = (a + b) ** 2 / (a ** 2 / (first.length - 1) + b ** 2 / (second.length - 1));
  return { t, df, p: twoSided(t, df) };
}

const UNKNOWN: WelchTest = { t: Number.NaN, df: Number.NaN, p: Number.NaN };

/** Probability of a value of Student's t as far from 0 as this one: I_{df / (df + t^2)}(df / 2, 1 / 2). */
export function twoSided(t: number, df: number): number {
  return cephes.incbet(df / 2, 0.5, df / (df + t * t));
}
