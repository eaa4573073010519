import { createHash } from "node:crypto";

/** A key to be found, and where it is hidden. */
export interface Trial {
  /** Of the prompt, in windows. */
  readonly length: number;
  /** 0: at the beginning, 1: at the end. */
  readonly depth: number;
  readonly repetition: number;
  readonly key: number;
}

export interface TrialSettings {
  readonly lengths: readonly number[];
  /** So many, evenly spaced from 0 to 1; or one for each trial, uniform. */
  readonly depths: number | "random";
  /** Of each length and depth. */
  readonly trials: number;
  /** null: keys from 1 to 9,999,999. */
  readonly digits: number | null;
  readonly seed: number;
}

const LONGEST_KEY = 9_999_999;

/** Smallest and largest key. */
export function keyRange(digits: number | null): readonly [smallest: number, largest: number] {
  return digits === null ? [1, LONGEST_KEY] : [10 ** (digits - 1), 10 ** digits - 1];
}

/**
 * All trials of a run, one of every length and depth before the second of any, so that an interrupted run has tried all
 * about equally often. A trial depends on the seed and on its own place, not on which others there are.
 */
export function planTrials({ lengths, depths, trials, digits, seed }: TrialSettings): Trial[] {
  const [smallest, largest] = keyRange(digits);
  const spaced = (count: number) => Array.from({ length: count }, (_, i) => (count === 1 ? 0.5 : i / (count - 1)));
  const depthsOf = (length: number, repetition: number): readonly number[] =>
    depths === "random" ? [draw(seed, "depth", length, repetition)] : spaced(depths);
  return Array.from({ length: trials }, (_, repetition) =>
    lengths.flatMap((length) =>
      depthsOf(length, repetition).map((depth) => {
        const key = smallest + Math.floor(draw(seed, "key", length, depth, repetition) * (largest - smallest + 1));
        return { length, depth, repetition, key };
      }),
    ),
  ).flat();
}

/** A number from 0 to below 1 that belongs to this seed and this name: 48 bits of their SHA-256. */
function draw(seed: number, ...name: readonly (string | number)[]): number {
  const digest = createHash("sha256").update(JSON.stringify([seed, ...name]));
  return digest.digest().readUIntBE(0, 6) / 2 ** 48;
}
