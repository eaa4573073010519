import type { Report, Table } from "../report/report.js";
import { latencyChart, throughputChart } from "./charts.js";
import { type Comparison, compare } from "./comparison.js";
import { type Figures, figuresOf, type Percentiles } from "./figures.js";
import type { LoadTarget } from "./load-target.js";
import type { LoadOptions } from "./options.js";
import type { Trial, Trials } from "./run-scenarios.js";
import type { Scenario } from "./scenarios.js";

export interface LoadReport extends Report {
  /** Requests that failed and were not meant to. */
  readonly failures: number;
  /** Scenarios of a server without a single answer. */
  readonly unanswered: number;
}

export function loadReport(
  options: LoadOptions,
  scenarios: readonly Scenario[],
  loads: readonly LoadTarget[],
  { trials, skipped }: Trials,
  isInterrupted: boolean,
): LoadReport {
  const labels = loads.map(({ label }) => label);
  const groups = scenarios.flatMap(({ name }) =>
    labels.flatMap((label): (readonly [Trial, ...Trial[]])[] => {
      const [first, ...rest] = trials.filter(({ scenario, target }) => scenario === name && target === label);
      return first === undefined ? [] : [[first, ...rest]];
    }),
  );
  const figures = groups.map(figuresOf);
  const [a, b] = labels;
  const comparisons =
    a === undefined || b === undefined
      ? []
      : scenarios.map(({ name }) => {
          const ofScenario = trials.filter(({ scenario }) => scenario === name);
          return compare(name, ofScenario, [a, b]);
        });
  const tables = [
    throughputTable(figures),
    latencyTable(figures),
    ...(comparisons.length === 0 ? [] : [comparisonTable(comparisons)]),
    failureTable(figures),
    skippedTable(skipped),
  ].map((table) => (labels.length === 1 ? withoutColumn(table, "server") : table));
  const failed = figures.reduce((total, { failures }) => total + failures.total, 0);
  return {
    name: "load",
    title: "Load",
    about: aboutRun(options, scenarios, loads, figures, isInterrupted),
    tables: tables.filter(({ rows }) => rows.length > 0),
    charts: figures.some(({ answers }) => answers > 0)
      ? [throughputChart(figures, labels), latencyChart(groups, labels)]
      : [],
    data: {
      command: "load",
      interrupted: isInterrupted,
      settings: options,
      targets: loads.map(({ label, target, ignoresEos }) => {
        const { url, model, lambdatap } = target;
        return { label, url, model, ignoresEos, lambdatap };
      }),
      figures,
      comparisons,
      skipped,
    },
    failures: failed,
    unanswered: figures.filter(({ answers }) => answers === 0).length,
  };
}

function aboutRun(
  { seconds, rounds, connections, timeoutMs }: LoadOptions,
  scenarios: readonly Scenario[],
  loads: readonly LoadTarget[],
  figures: readonly Figures[],
  isInterrupted: boolean,
): string[] {
  const servers = loads.map(({ label, target: { url, model, lambdatap }, ignoresEos }) => {
    const card =
      lambdatap && `, lambdatap: ${lambdatap.architecture}, ${lambdatap.precision}, window ${lambdatap.window}`;
    const eos = ignoresEos ? "" : "; it does not know `ignore_eos`, so answers may be shorter than asked for";
    return `- ${label}: ${url}, model ${model}${card ?? ""}${eos}`;
  });
  const unrefused = figures.filter(({ scenario, refusals }) => scenario === "overload" && refusals === 0);
  return [
    ...(isInterrupted ? ["**Interrupted**: these are the figures until then."] : []),
    servers.join("\n"),
    `${rounds === 1 ? "One round" : `${rounds} rounds`} of ${seconds} s for each scenario, over ${connections} connections unless it says otherwise${loads.length > 1 ? ", the servers in turns" : ""}. A connection sends its next request when it has its answer. A request has failed after ${timeoutMs / 1000} s of silence.`,
    scenarios.map(({ name, about }) => `- ${name}: ${about}`).join("\n"),
    "Times are in milliseconds: p50 / p95 / p99. First token: from the request to the first text of a streamed answer. Answers in one piece count when they are complete, so the last ones of a scenario are left out; streamed ones count token by token.",
    ...unrefused.map(
      ({ target }) =>
        `Server ${target} refused nothing in the overload scenario: it queues more; say a larger --overload.`,
    ),
    ...figures.flatMap(({ scenario, target, endedBy }) =>
      endedBy.map((why) => `${scenario} on server ${target} ended early: ${ENDINGS[why]}.`),
    ),
  ];
}

const ENDINGS: Readonly<Record<Trial["ended"], string>> = {
  time: "it was over",
  limit: "a connection had no answer long after its time",
  failures: "nothing but failures came any more",
  interrupted: "it was interrupted",
};

const throughputTable = (figures: readonly Figures[]): Table => ({
  title: "Throughput",
  columns: [
    "scenario",
    "server",
    "answers",
    "answers/s",
    "tokens/s",
    "prompt tokens",
    "refused (429)",
    "failed",
    "server MB",
  ],
  rows: figures.map((figure) => [
    figure.scenario,
    figure.target,
    `${figure.answers}`,
    shown(figure.answersPerSecond),
    shown(figure.tokensPerSecond),
    figure.promptTokens === null ? "-" : `${Math.round(figure.promptTokens)}`,
    figure.scenario === "overload" ? `${figure.refusals}` : "-",
    `${figure.failures.total}`,
    memoryText(figure),
  ]),
});

const memoryText = ({ memory }: Figures): string =>
  memory === null ? "-" : [memory.start, memory.peak, memory.end].map((bytes) => Math.round(bytes / 1e6)).join(" / ");

const latencyTable = (figures: readonly Figures[]): Table => ({
  title: "Latency, ms (p50 / p95 / p99)",
  columns: ["scenario", "server", "first token", "between tokens", "whole answer"],
  rows: figures
    .filter(({ latency }) => latency !== null)
    .map(({ scenario, target, firstToken, betweenTokens, latency }) => [
      scenario,
      target,
      ...[firstToken, betweenTokens, latency].map(percentilesText),
    ]),
});

const percentilesText = (percentiles: Percentiles | null): string =>
  percentiles === null ? "-" : [percentiles.p50, percentiles.p95, percentiles.p99].map(shown).join(" / ");

const comparisonTable = (comparisons: readonly Comparison[]): Table => ({
  title: "B / A, median of the rounds",
  columns: [
    "scenario",
    "rounds",
    "tokens/s",
    "answers/s",
    "first token",
    "between tokens",
    "between, p99",
    "whole answer",
  ],
  rows: comparisons
    .filter(({ pairs }) => pairs > 0)
    .map((c) => [
      c.scenario,
      `${c.pairs}`,
      ...[c.tokensPerSecond, c.answersPerSecond, c.firstToken, c.betweenTokens, c.betweenTokensP99, c.latency].map(
        (ratio) => (ratio === null ? "-" : `${ratio.toFixed(2)} x`),
      ),
    ]),
});

const failureTable = (figures: readonly Figures[]): Table => ({
  title: "Failures",
  columns: ["scenario", "server", "kind", "count", "the first of them"],
  rows: figures.flatMap(({ scenario, target, failures }) =>
    failures.kinds.map(({ kind, count, example }) => [scenario, target, kind, `${count}`, example]),
  ),
});

const skippedTable = (skipped: Trials["skipped"]): Table => ({
  title: "Left out",
  columns: ["scenario", "server", "why"],
  rows: skipped.map(({ scenario, target, why }) => [scenario, target, why]),
});

function withoutColumn({ title, columns, rows }: Table, name: string): Table {
  const at = columns.indexOf(name);
  const cut = (cells: readonly string[]) => cells.filter((_, i) => i !== at);
  return { title, columns: cut(columns), rows: rows.map(cut) };
}

/** Three digits that count. */
const shown = (value: number): string =>
  value >= 100 ? Math.round(value).toString() : value >= 0.0005 ? value.toPrecision(3) : "0";
