import { type WelchTest, welchTest } from "../statistics/welch.js";
import {
  bestOf,
  type FrontierRun,
  METHOD_TITLES,
  type Method,
  meanOfLast,
  type RunResult,
  settingTitle,
} from "./frontier-run.js";

/** The methods that top-AFA is compared with. */
export const BASELINES = ["topk", "batch-topk"] as const satisfies readonly Method[];

/** Two runs by their mse over the last training steps, and by their l0. */
export interface Comparison {
  readonly topAfa: RunResult;
  readonly baseline: RunResult;
  /** Of the mse of top-AFA less that of the baseline. */
  readonly test: WelchTest;
}

/**
 * The comparison of arXiv 2503.24277: the best lambda against each baseline's best k by Welch's test over the last training steps,
 * seed by seed. Nothing in it makes l0 alike, and steps of one run are no independent draws: it says whether two runs ended at
 * different errors, and no more.
 */
export function compareBest(results: readonly RunResult[], firstSeed: number, seeds: readonly number[]): Comparison[] {
  const topAfa = bestOf(results, "top-afa", firstSeed);
  if (topAfa === null) return [];
  return BASELINES.flatMap((method) => {
    const baseline = bestOf(results, method, firstSeed);
    if (baseline === null) return [];
    return seeds.flatMap((seed) => {
      const [first, second] = [resultOf(results, { ...topAfa, seed }), resultOf(results, { ...baseline, seed })];
      if (first === undefined || second === undefined) return [];
      return [{ topAfa: first, baseline: second, test: welchTest(first.last.mse, second.last.mse) }];
    });
  });
}

const resultOf = (results: readonly RunResult[], { method, setting, seed }: FrontierRun): RunResult | undefined =>
  results.find((result) => result.method === method && result.setting === setting && result.seed === seed);

/** What a comparison comes to, in a sentence that has l0 beside each mse. */
export function verdict({ topAfa, baseline }: Pick<Comparison, "topAfa" | "baseline">): string {
  const isLower = meanOfLast(topAfa, "mse") < meanOfLast(baseline, "mse");
  const isSparser = meanOfLast(topAfa, "l0") <= meanOfLast(baseline, "l0");
  const pair = `${described(topAfa)}; ${described(baseline)}`;
  if (isLower && isSparser) return `${pair}: top-AFA has the lower mse, at lower or equal l0.`;
  if (isLower) return `${pair}: top-AFA has the lower mse, and needs a higher l0 for it.`;
  if (isSparser) return `${pair}: top-AFA has the higher mse, at lower or equal l0.`;
  return `${pair}: top-AFA has the higher mse, and the higher l0.`;
}

/**
 * The sentence that nobody may leave out: which runs of top-AFA lose to a run of a baseline that has lower or equal l0, on rows
 * that were not trained on; null where none of top-AFA has run.
 */
export function lossesAtEqualL0(results: readonly RunResult[], seed: number): string | null {
  const own = results.filter((result) => result.seed === seed);
  const topAfa = own.filter(({ method }) => method === "top-afa");
  if (topAfa.length === 0) return null;
  const lost = topAfa.flatMap((result) => {
    const better = own.filter(
      ({ method, heldOut }) =>
        method !== "top-afa" && heldOut.l0 <= result.heldOut.l0 && heldOut.mse < result.heldOut.mse,
    );
    const [best] = better.sort((a, b) => a.heldOut.mse - b.heldOut.mse);
    return best === undefined ? [] : [`${atHeldOut(result)} loses to ${atHeldOut(best)}`];
  });
  const count = `${lost.length} of ${topAfa.length} settings of top-AFA lose to a baseline of lower or equal l0`;
  return lost.length === 0 ? `${count}.` : `${count}: ${lost.join("; ")}.`;
}

/**
 * mse that a baseline would have at an l0, between the two of its runs that lie around it (a line on logarithmic axes); null
 * where none lie around it.
 */
export function mseAt(results: readonly RunResult[], method: Method, seed: number, l0: number): number | null {
  const points = results
    .filter((result) => result.method === method && result.seed === seed)
    .map(({ heldOut }) => heldOut)
    .sort((a, b) => a.l0 - b.l0);
  const above = points.findIndex((point) => point.l0 >= l0);
  const [low, high] = [points[above - 1], points[above]];
  if (high?.l0 === l0) return high.mse;
  if (low === undefined || high === undefined) return null;
  const share = Math.log(l0 / low.l0) / Math.log(high.l0 / low.l0);
  return low.mse * (high.mse / low.mse) ** share;
}

/**
 * How many times as large as a baseline's at the same l0 top-AFA's mse is on rows that were not trained on; null where no run of
 * top-AFA has runs of the baseline around it.
 */
export function besideBaseline(
  results: readonly RunResult[],
  method: (typeof BASELINES)[number],
  seed: number,
): string | null {
  const ratios = results.flatMap(({ heldOut, ...run }) => {
    if (run.method !== "top-afa" || run.seed !== seed) return [];
    const other = mseAt(results, method, seed, heldOut.l0);
    return other === null ? [] : [heldOut.mse / other];
  });
  if (ratios.length === 0) return null;
  const [least, most] = [Math.min(...ratios).toFixed(2), Math.max(...ratios).toFixed(2)];
  const range = least === most ? least : `${least} to ${most}`;
  return `At the same l0 as ${METHOD_TITLES[method]} (between two of its runs), the mse of top-AFA is ${range} times as large.`;
}

const described = (result: RunResult): string =>
  `${METHOD_TITLES[result.method]} (${settingTitle(result)}) has mse ${figure(meanOfLast(result, "mse"))} at l0 ${figure(meanOfLast(result, "l0"))}`;

const atHeldOut = (result: RunResult): string =>
  `${METHOD_TITLES[result.method]} ${settingTitle(result)} (mse ${figure(result.heldOut.mse)} at l0 ${figure(result.heldOut.l0)})`;

/** Three digits. */
export const figure = (value: number): string =>
  value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
