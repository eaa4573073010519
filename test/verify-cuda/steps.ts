import type { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import { median, percentile, timed } from "../bench/report.js";

/** Steps that are not counted: kernels are chosen, and what is replayed is recorded. */
const WARM = 10;

/** Milliseconds of decode steps with all rows of a cache, of which each reads the logits. */
export interface StepTimes {
  readonly median: number;
  readonly p99: number;
}

export function stepTimes(runner: Runner, cache: LambdaCache, steps: number): StepTimes {
  const { vocabSize } = runner.model.shape;
  const step = (i: number) =>
    runner.decode(
      cache,
      0,
      Array.from({ length: cache.rows }, (_, row) => (i * 7919 + row * 104_729) % vocabSize),
    );
  for (let i = 0; i < WARM; i++) step(i);
  const ms = Array.from({ length: steps }, (_, i) => timed(() => step(i)));
  return { median: median(ms), p99: percentile(ms, 0.99) };
}
