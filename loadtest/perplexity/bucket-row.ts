import { mean, sampleStandardDeviation } from "simple-statistics";
import type { Fresh, Pass } from "./modes.js";
import { isWithin, type Plan } from "./plan.js";
import { passNll, type Result, sampledNll } from "./result.js";

/** Mean NLL (nat per token) over all tokens of a bucket that a pass has read. */
export interface PassFigure {
  readonly tokens: number;
  readonly nll: number;
}

/** Mean NLL (nat per token) from sampled tokens, and how far lambda is above it at the same tokens. */
export interface FreshFigure {
  readonly samples: number;
  /** Of the bucket: lambda's mean over all its tokens minus `lambdaAbove`; without a lambda pass that of the sampled tokens. */
  readonly nll: number;
  /** Of the sampled tokens. */
  readonly sampledNll: number;
  /** Mean of the paired differences; null without a lambda pass. */
  readonly lambdaAbove: number | null;
  /** Of that mean: standard deviation of the differences / sqrt(samples); null for fewer than two. */
  readonly standardError: number | null;
}

export interface BucketRow {
  readonly from: number;
  readonly to: number;
  /** All that comes before a token is in its window: re-encoded and truncation are what lambda is. */
  readonly withinWindow: boolean;
  readonly lambda: PassFigure | null;
  readonly full: PassFigure | null;
  readonly reEncoded: FreshFigure | null;
  readonly truncation: FreshFigure | null;
}

/** What is known of each bucket; null where it was not measured. */
export function bucketRows(plan: Plan, results: readonly Result[]): BucketRow[] {
  return plan.buckets.map((bucket, i) => {
    const lambda = passNll(results, "lambda", i);
    const positions = plan.positions[i] ?? [];
    const pass = (part: Pass) => passFigure(part === "lambda" ? lambda : passNll(results, part, i));
    const fresh = (part: Fresh) => {
      const sampled = sampledNll(results, part, i).slice(0, positions.length);
      const same = positions.slice(0, sampled.length).map((position) => lambda?.[position - bucket.from] ?? Number.NaN);
      return freshFigure(sampled, lambda && { same, nll: mean([...lambda]) });
    };
    return {
      ...bucket,
      withinWindow: isWithin(bucket, plan.window),
      lambda: pass("lambda"),
      full: pass("full"),
      reEncoded: fresh("re-encoded"),
      truncation: fresh("truncation"),
    };
  });
}

const passFigure = (nll: Float64Array | undefined): PassFigure | null =>
  nll === undefined ? null : { tokens: nll.length, nll: mean([...nll]) };

/** @param lambda NLL at the same tokens, and its mean over all tokens of the bucket */
export function freshFigure(
  sampled: readonly number[],
  lambda: { readonly same: readonly number[]; readonly nll: number } | undefined,
): FreshFigure | null {
  if (sampled.length === 0) return null;
  const [samples, sampledNll] = [sampled.length, mean([...sampled])];
  if (lambda === undefined) return { samples, nll: sampledNll, sampledNll, lambdaAbove: null, standardError: null };
  const differences = sampled.map((nll, i) => (lambda.same[i] ?? Number.NaN) - nll);
  const lambdaAbove = mean(differences);
  const standardError = samples < 2 ? null : sampleStandardDeviation(differences) / Math.sqrt(samples);
  return { samples, nll: lambda.nll - lambdaAbove, sampledNll, lambdaAbove, standardError };
}
