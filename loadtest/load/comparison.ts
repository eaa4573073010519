import { median } from "simple-statistics";
import { type Figures, figuresOf } from "./figures.js";
import type { Trial } from "./run-scenarios.js";
import type { ScenarioName } from "./scenario-names.js";

/** Two servers in one scenario: medians over the rounds of B's figure divided by A's in the same round. */
export interface Comparison {
  readonly scenario: ScenarioName;
  /** Rounds in which both have answered. */
  readonly pairs: number;
  readonly tokensPerSecond: number | null;
  readonly answersPerSecond: number | null;
  readonly latency: number | null;
  readonly firstToken: number | null;
  readonly betweenTokens: number | null;
  readonly betweenTokensP99: number | null;
}

/** @param trials of one scenario, of both servers */
export function compare(
  scenario: ScenarioName,
  trials: readonly Trial[],
  [a, b]: readonly [string, string],
): Comparison {
  const pairs = trials
    .filter((trial) => trial.target === a)
    .flatMap((first) => {
      const second = trials.find((trial) => trial.target === b && trial.round === first.round);
      return second === undefined ? [] : [[figuresOf([first]), figuresOf([second])] as const];
    })
    .filter((pair) => pair.every(({ answers }) => answers > 0));
  const ratio = (figure: (figures: Figures) => number | undefined): number | null => {
    const ratios = pairs.flatMap(([first, second]) => {
      const [below, above] = [figure(first), figure(second)];
      return below === undefined || above === undefined || below === 0 ? [] : [above / below];
    });
    return ratios.length === 0 ? null : median(ratios);
  };
  return {
    scenario,
    pairs: pairs.length,
    tokensPerSecond: ratio(({ tokensPerSecond }) => tokensPerSecond),
    answersPerSecond: ratio(({ answersPerSecond }) => answersPerSecond),
    latency: ratio(({ latency }) => latency?.p50),
    firstToken: ratio(({ firstToken }) => firstToken?.p50),
    betweenTokens: ratio(({ betweenTokens }) => betweenTokens?.p50),
    betweenTokensP99: ratio(({ betweenTokens }) => betweenTokens?.p99),
  };
}
