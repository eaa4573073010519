import type { Report, Table } from "../report/report.js";
import { countFailures, type TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";
import { type Accuracy, accuracyOf, distanceBin, groupBy } from "./accuracy.js";
import { accuracyCurve, curvePoints, heatMaps } from "./charts.js";
import { MODE_MEANINGS, MODE_TITLES, MODES, type Mode } from "./modes.js";
import { keyRange, type TrialSettings } from "./trials.js";
import type { KeySettings, Outcome } from "./try-key.js";

export interface Findings {
  readonly target: Target;
  readonly options: Pick<TrialSettings, "depths" | "digits" | "seed">;
  readonly settings: KeySettings;
  readonly outcomes: readonly Outcome[];
  readonly failures: readonly TargetFailure[];
  /** Trials of this run that have no outcome. */
  readonly missing: number;
}

/** Accuracy by length, depth and distance, for people and for programs. */
export function passkeyReport(findings: Findings): Report {
  const { target, options, settings, outcomes, missing } = findings;
  const { window } = settings;
  const failures = countFailures(findings.failures);
  const modes = MODES.filter((mode) => outcomes.some((outcome) => outcome.mode === mode));
  const isBeyond = ({ distance }: Outcome) => distance >= window;
  const summary = modes.map((mode) => {
    const ofMode = outcomes.filter((outcome) => outcome.mode === mode);
    const [within, beyond] = [ofMode.filter((outcome) => !isBeyond(outcome)), ofMode.filter(isBeyond)];
    return { mode, within: accuracyOf(within), beyond: accuracyOf(beyond) };
  });
  const cells = groupBy(
    outcomes,
    ({ mode, length, depth }) => ({ mode, length, depth }),
    ({ length }) => length,
  ).map(({ group, values }) => ({ ...group, ...accuracyOf(values) }));
  const data = {
    target: target.url,
    model: target.model,
    lambdatap: target.lambdatap,
    ...options,
    settings,
    summary,
    byDistance: curvePoints(outcomes, window),
    cells,
    failures,
    missing,
    outcomes,
  };
  const failed: Table[] =
    failures.total === 0
      ? []
      : [
          {
            title: "Failures",
            columns: ["kind", "trials", "the first of them"],
            rows: failures.kinds.map(({ kind, count, example }) => [kind, String(count), example]),
          },
        ];
  return {
    name: "passkey",
    title: `Passkey retrieval: ${target.model}`,
    about: [...about(findings, modes), ...unfinished(failures.total, missing)],
    tables: [
      {
        title: "Keys found, within the window and beyond it",
        columns: ["mode", "within", "beyond"],
        rows: summary.map(({ mode, within, beyond }) => [MODE_TITLES[mode], shown(within), shown(beyond)]),
      },
      byDistance(outcomes, modes, window),
      byLength(outcomes, modes),
      ...failed,
    ],
    charts:
      outcomes.length === 0 ? [] : [...heatMaps(outcomes, window, options.depths), accuracyCurve(outcomes, window)],
    data,
  };
}

function about({ target, options, settings }: Findings, modes: readonly Mode[]): string[] {
  const { lambdatap } = target;
  const { window, sinks, answer, question, retrieval } = settings;
  const [smallest, largest] = keyRange(options.digits);
  const depths = options.depths === "random" ? "random depths" : `${options.depths} depths`;
  const model = lambdatap
    ? `a ${lambdatap.architecture} of ${lambdatap.layers} layers in ${lambdatap.precision}, trained on ${lambdatap.trained_length} tokens; W = ${window}, G = ${sinks} sinks`
    : `no lambdatap server, which cannot be told how to attend; W = ${window}`;
  const asked = question === "" ? "no question, as the authors have it" : `the question "${question}"`;
  const given = Object.entries(retrieval).map(([field, value]) => `${field} ${value}`);
  const retrieving = given.length === 0 ? "the server's own settings" : `${given.join(", ")}, else the server's own`;
  const blind = modes.some((mode) => mode === "lambda" || mode === "truncation")
    ? [
        "**Without retrieval a key beyond the window cannot be found, by construction:** where the answer is written, no head sees a key " +
          "sentence that is more than W tokens away, unless it lies in the first G tokens, and here the prefix does. " +
          "What lambda and truncation find there all the same was guessed, or carried along by the tokens in between.",
      ]
    : [];
  return [
    `${target.url}, model ${target.model}: ${model}.`,
    `The task is that of LM-Infinite's authors (arXiv 2308.16137): prefix, fillers, key sentence, fillers, and ${asked}. Keys from ${smallest} to ${largest}, ${depths}, seed ${options.seed}. ` +
      `Found: the first integer in at most R = ${answer} greedy tokens is the key. Distances run from the end of the key sentence to the end of the prompt.`,
    ...blind,
    modes
      .map((mode) => {
        const how = mode === "retrieve" ? ` (${retrieving})` : "";
        return `- **${MODE_TITLES[mode]}**: ${MODE_MEANINGS[mode]}${how}`;
      })
      .join("\n"),
  ];
}

function unfinished(failures: number, missing: number): string[] {
  if (missing === 0) return [];
  return [
    `**Not finished:** ${missing} trials are missing, ${failures} of them failed. The same command goes on here.`,
  ];
}

function byDistance(outcomes: readonly Outcome[], modes: readonly Mode[], window: number): Table {
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

function byLength(outcomes: readonly Outcome[], modes: readonly Mode[]): Table {
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
