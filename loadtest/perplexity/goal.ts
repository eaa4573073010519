import type { BucketRow } from "./bucket-row.js";

/** Nat per token that lambda may be above the re-encoded window, in every bucket. */
export const GOAL = 0.02;

export interface Verdict {
  /** null: not known, because not all was measured. */
  readonly met: boolean | null;
  readonly sentence: string;
}

/** @param complete whether every bucket has all its samples: else "met" cannot be said yet */
export function verdictOf(rows: readonly BucketRow[], complete: boolean): Verdict {
  const measured = rows.flatMap(({ from, to, reEncoded }) => {
    const { lambdaAbove: above, standardError } = reEncoded ?? {};
    return typeof above === "number" ? [{ name: rangeName(from, to), above, error: standardError ?? null }] : [];
  });
  const goal = `Goal: no bucket more than ${GOAL} nat above its re-encoded value`;
  const [worst] = measured.toSorted((a, b) => b.above - a.above);
  if (worst === undefined) return { met: null, sentence: `${goal}. Not measured.` };
  const over = measured.filter(({ above }) => above > GOAL).length;
  const largest = `largest difference ${signed(worst.above)} ± ${worst.error?.toFixed(4) ?? "?"} at ${worst.name}`;
  if (over === 0 && !complete) return { met: null, sentence: `${goal}. Met so far in ${measured.length}; ${largest}.` };
  if (over === 0) return { met: true, sentence: `${goal}. Met in all ${measured.length}; ${largest}.` };
  return { met: false, sentence: `${goal}. Not met in ${over} of ${measured.length}; ${largest}.` };
}

/** A bucket's tokens, both ends included. */
export const rangeName = (from: number, to: number): string => `${from}..${to - 1}`;

export const signed = (value: number): string => `${value < 0 ? "" : "+"}${value.toFixed(4)}`;
