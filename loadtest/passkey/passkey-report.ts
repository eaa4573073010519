import type { Report } from "../report/report.js";
import { countFailures, type TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";
import { accuracyOf, groupBy } from "./accuracy.js";
import { accuracyCurve, curvePoints } from "./accuracy-curve.js";
import { heatMaps } from "./heat-maps.js";
import { MODE_MEANINGS, MODE_TITLES, MODES, type Mode } from "./modes.js";
import { distanceTable, failureTable, lengthTable, summaryTable } from "./passkey-tables.js";
import { keyRange, type TrialSettings } from "./trials.js";
import { type KeySettings, namedSettings, type Outcome } from "./try-key.js";

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
  const { depths, digits, seed } = options;
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
    depths,
    digits,
    seed,
    settings: namedSettings(settings),
    summary,
    byDistance: curvePoints(outcomes, window),
    cells,
    failures,
    missing,
    outcomes,
  };
  return {
    name: "passkey",
    title: `Passkey retrieval: ${target.model}`,
    about: [...about(findings, modes), ...unfinished(failures.total, missing)],
    tables: [
      summaryTable(summary),
      distanceTable(outcomes, modes, window),
      lengthTable(outcomes, modes),
      ...(failures.total === 0 ? [] : [failureTable(failures)]),
    ],
    charts: outcomes.length === 0 ? [] : [...heatMaps(outcomes, window, depths), accuracyCurve(outcomes, window)],
    data,
  };
}

function about({ target, options, settings }: Findings, modes: readonly Mode[]): string[] {
  const { lambdatap } = target;
  const { window, sinks, answer, question, filler, retrieval } = settings;
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
          "What lambda and truncation find there all the same was guessed, or carried along by the tokens in between. " +
          "A key sentence that ends just within the window has lost its beginning already.",
      ]
    : [];
  return [
    `${target.url}, model ${target.model}: ${model}.`,
    `The task is that of LM-Infinite's authors (arXiv 2308.16137): prefix, fillers, key sentence, fillers, and ${asked}. Fillers: ${filler.name}. Keys from ${smallest} to ${largest}, ${depths}, seed ${options.seed}. ` +
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
