import type { Table } from "../report/report.js";
import type { FailureCounts } from "../target/failure.js";
import { type Accuracy, accuracyOf, distanceBin, groupBy } from "./accuracy.js";
import { MODE_TITLES, type Mode } from "./modes.js";
import type { Outcome } from "./try-key.js";

/** What a mode finds within the window and beyond it. */
export interface ModeSummary {
  readonly mode: Mode;
  readonly within: Accuracy;
  readonly beyond: Accuracy;
}

export function summaryTable(summary: readonly ModeSummary[]): Table {
  return {
    title: "Keys found, within the window and beyond it",
    columns: ["mode", "within", "beyond"],
    rows: summary.map(({ mode, within, beyond }) => [MODE_TITLES[mode], shown(within), shown(beyond)]),
  };
}

export function failureTable({ kinds }: FailureCounts): Table {
  return {
    title: "Failures",
    columns: ["kind", "trials", "the first of them"],
    rows: kinds.map(({ kind, count, example }) => [kind, String(count), example]),
  };
}

export function distanceTable(outcomes: readonly Outcome[], modes: readonly Mode[], window: number): Table {
  const bins = groupBy(
    outcomes,
    ({ distance }) => distanceBin(distance, window),
    ({ from }) => from,
  );
  return {
    title: "By distance of the key from the end",
    columns: ["distance", ...modes.map((mode) => MODE_TITLES[mode])],
    rows: bins.map(({ group, values }) => [group.label, ...perMode(values, modes)]),
  };
}

export function lengthTable(outcomes: readonly Outcome[], modes: readonly Mode[]): Table {
  const lengths = groupBy(
    outcomes,
    ({ length }) => length,
    (length) => length,
  );
  return {
    title: "By length of the prompt",
    columns: ["length", "tokens", ...modes.map((mode) => MODE_TITLES[mode]), "seconds each"],
    rows: lengths.map(({ group, values }) => {
      const tokens = Math.max(...values.map(({ promptTokens }) => promptTokens));
      const seconds = values.reduce((sum, outcome) => sum + outcome.seconds, 0) / values.length;
      return [`${group}x`, String(tokens), ...perMode(values, modes), seconds.toFixed(2)];
    }),
  };
}

const perMode = (outcomes: readonly Outcome[], modes: readonly Mode[]): string[] =>
  modes.map((mode) => shown(accuracyOf(outcomes.filter((outcome) => outcome.mode === mode))));

const percent = (share: number): string => (100 * share).toFixed(0);

function shown({ hits, trials, share, low, high }: Accuracy): string {
  if (trials === 0) return "";
  return `${percent(share)} % (${hits}/${trials}, ${percent(low)} to ${percent(high)})`;
}
