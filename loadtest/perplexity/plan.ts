import { type Bucket, bucketsOf, samplePositions } from "./buckets.js";
import { FRESH, type Fresh, type Mode, PASSES, type Pass, type Window } from "./modes.js";

/** What is to be measured of a sequence. */
export interface Plan {
  readonly ids: readonly number[];
  readonly window: Window;
  /** Whether the window is another than the server's own. */
  readonly asksWindow: boolean;
  readonly buckets: readonly Bucket[];
  /** By bucket; none where all that comes before a token is in its window. */
  readonly positions: readonly (readonly number[])[];
  /** Tokens that each pass reads. */
  readonly passes: ReadonlyMap<Pass, number>;
  readonly fresh: readonly Fresh[];
}

export interface PlanSettings {
  readonly modes: readonly Mode[];
  readonly samples: number;
  readonly seed: number;
  readonly fullTokens: number;
}

export function planOf(
  ids: readonly number[],
  window: Window,
  asksWindow: boolean,
  { modes, samples, seed, fullTokens }: PlanSettings,
): Plan {
  const buckets = bucketsOf(ids.length);
  const lengths = { lambda: ids.length, full: Math.min(fullTokens, ids.length) };
  return {
    ids,
    window,
    asksWindow,
    buckets,
    positions: buckets.map((bucket) => (isWithin(bucket, window) ? [] : samplePositions(bucket, samples, seed))),
    passes: new Map(PASSES.filter((pass) => modes.includes(pass)).map((pass) => [pass, lengths[pass]])),
    fresh: FRESH.filter((part) => modes.includes(part === "re-encoded" ? "lambda" : part)),
  };
}

/** Whether nothing has left the window yet at any token of a bucket. */
export const isWithin = ({ to }: Bucket, { window }: Window): boolean => to - 1 <= window;
