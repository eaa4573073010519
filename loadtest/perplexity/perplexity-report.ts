import type { Report, Table } from "../report/report.js";
import { countFailures, type TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";
import { type BucketRow, bucketRows, type FreshFigure, type PassFigure } from "./bucket-row.js";
import { nllChart } from "./chart.js";
import { rangeName, signed, verdictOf } from "./goal.js";
import type { Plan, PlanSettings } from "./plan.js";
import type { Result } from "./result.js";
import type { TokenSequence } from "./sequence.js";

/** What a report is made of. */
export interface Reported {
  readonly target: Target;
  readonly sequence: TokenSequence;
  readonly plan: Plan;
  readonly settings: PlanSettings;
  readonly results: readonly Result[];
  readonly failures: readonly TargetFailure[];
  readonly interrupted: boolean;
}

export function perplexityReport(reported: Reported): Report {
  const { target, sequence, plan, settings, results, interrupted } = reported;
  const rows = bucketRows(plan, results);
  const isComplete = rows.every(({ reEncoded }, i) => (reEncoded?.samples ?? 0) === (plan.positions[i]?.length ?? 0));
  const verdict = verdictOf(rows, isComplete);
  const failures = countFailures(reported.failures);
  const { modes, ...sampling } = settings;
  return {
    name: "perplexity",
    title: "NLL by position",
    about: aboutOf(reported, rows, verdict.sentence),
    tables: [rowTable(rows), ...(failures.total > 0 ? [failureTable(failures)] : [])],
    charts: [
      {
        name: "nll",
        caption: `NLL by position to ${plan.ids.length} tokens, window ${plan.window.window}, and how far lambda is above the re-encoded window.`,
        spec: nllChart(rows, plan.window, sequence.documents),
      },
    ],
    data: {
      command: "perplexity",
      target: target.url,
      model: target.model,
      architecture: target.lambdatap?.architecture,
      precision: target.lambdatap?.precision,
      ...plan.window,
      tokens: plan.ids.length,
      documents: sequence.documents,
      modes,
      ...sampling,
      buckets: rows,
      goal: verdict,
      failures,
      interrupted,
    },
  };
}

function aboutOf(reported: Reported, rows: readonly BucketRow[], verdict: string): string[] {
  const { target, sequence, plan, settings, interrupted } = reported;
  const { window, sinks } = plan.window;
  const { lambdatap } = target;
  const names = sequence.documents.map(({ name, start }) => `${name} from ${start}`).join(", ");
  const bos = lambdatap?.adds_bos ? ", each begun by the beginning-of-text token" : "";
  return [
    `${target.model} (${lambdatap?.architecture}, ${lambdatap?.precision}) at ${target.url}; window W = ${window}, sinks G = ${sinks}.`,
    `${plan.ids.length} tokens as one sequence: ${names}${bos}.`,
    verdict,
    ...passSentences(rows),
    ...(interrupted ? ["Interrupted: what is missing was not measured. The same command goes on."] : []),
    `NLL: minus the log-probability of a token given those before it, in nat, mean per token; positions count from 0. A bucket holds the tokens at its positions, both ends included.

- **lambda**: one pass over the sequence; the token at t is predicted from the W tokens t - W to t - 1 and the first G. All tokens.
- **full**: one pass with ordinary attention over everything before the token, to ${settings.fullTokens} tokens, because its cost grows with the square. All tokens it reads.
- **re-encoded**: the tokens t - W to t - 1 alone, as a prompt of their own with positions from 0 and nothing put in front, predict the token at t. Sampled.
- **truncation**: the first G tokens and the W - G before t, as a prompt of their own with positions from 0: sliding recomputation. Sampled.
- sampled: up to ${settings.samples} positions of a bucket at random (seed ${settings.seed}); all where there are no more.
- differences: lambda minus the other, at the same tokens; ± the standard error of that mean (standard deviation of the differences over the square root of their number, taken as independent).
- the columns re-encoded and truncation: lambda's mean over all tokens of the bucket minus that difference, so that chance in which tokens were drawn does not move them; perplexity.json has the means of the sampled tokens, too.
- to position W everything before a token is in its window, and re-encoded and truncation are what lambda is: "=".`,
  ];
}

function passSentences(rows: readonly BucketRow[]): string[] {
  const sentence = (name: string, figures: readonly (PassFigure | null)[]) => {
    const read = figures.flatMap((figure) => figure ?? []);
    const tokens = read.reduce((sum, figure) => sum + figure.tokens, 0);
    if (tokens === 0) return [];
    const nll = read.reduce((sum, figure) => sum + figure.nll * figure.tokens, 0) / tokens;
    return [`${name}: ${nll.toFixed(4)} nat over ${tokens} tokens (perplexity ${Math.exp(nll).toFixed(2)}).`];
  };
  return [
    ...sentence(
      "lambda",
      rows.map(({ lambda }) => lambda),
    ),
    ...sentence(
      "full",
      rows.map(({ full }) => full),
    ),
  ];
}

function rowTable(rows: readonly BucketRow[]): Table {
  const columns = [
    "tokens at",
    "tokens",
    "lambda",
    "full",
    "sampled",
    "re-encoded",
    "lambda - re-encoded",
    "truncation",
    "lambda - truncation",
  ];
  return { title: "NLL (nat per token)", columns, rows: rows.map(cellsOf) };
}

function cellsOf({ from, to, withinWindow, lambda, full, reEncoded, truncation }: BucketRow): string[] {
  const pass = (figure: PassFigure | null) => figure?.nll.toFixed(4) ?? "-";
  const fresh = (figure: FreshFigure | null) => (withinWindow ? "=" : (figure?.nll.toFixed(4) ?? "-"));
  const above = (figure: FreshFigure | null) => {
    if (withinWindow) return "=";
    if (typeof figure?.lambdaAbove !== "number") return "-";
    return `${signed(figure.lambdaAbove)} ± ${figure.standardError?.toFixed(4) ?? "?"}`;
  };
  const partial = full !== null && full.tokens < to - from ? ` (${full.tokens})` : "";
  return [
    rangeName(from, to),
    String(to - from),
    pass(lambda),
    `${pass(full)}${partial}`,
    String((reEncoded ?? truncation)?.samples ?? "-"),
    fresh(reEncoded),
    above(reEncoded),
    fresh(truncation),
    above(truncation),
  ];
}

const failureTable = ({ kinds }: ReturnType<typeof countFailures>): Table => ({
  title: "Failures",
  columns: ["kind", "count", "for example"],
  rows: kinds.map(({ kind, count, example }) => [kind, String(count), example]),
});
