import { cpus } from "node:os";
import type { TopLevelSpec } from "vega-lite";
import type { Chart, Report, Table } from "../report/report.js";
import type { BenchResult } from "./result.js";

/** A benchmark and what came of it. */
export interface Outcome {
  readonly name: string;
  readonly result: BenchResult | null;
  /** Why there is none. */
  readonly failure?: string;
}

/** All outcomes as one report: a table for each benchmark, with the floor or peer beside each figure. */
export function benchReport(outcomes: readonly Outcome[]): Report {
  const measured = outcomes.flatMap(({ name, result }) => (result === null ? [] : [{ name, result }]));
  const failed = outcomes.filter(({ result }) => result === null);
  const missed = measured.flatMap(({ result }) => result.figures.filter(({ met }) => met === false));
  const machine = { processor: cpus()[0]?.model ?? "unknown", cores: cpus().length, node: process.version };
  return {
    name: "bench",
    title: "Benchmarks",
    about: [
      `${machine.cores} cores of ${machine.processor}, Node ${machine.node}; every figure beside its floor, peer or goal from the same run.`,
      `Goals not met: ${missed.length === 0 ? "none" : missed.map(({ name }) => name).join("; ")}.`,
      ...failed.map(({ name, failure }) => `${name} gave no figures: ${failure}.`),
    ],
    tables: measured.map(({ result }) => toTable(result)),
    charts: measured.flatMap(({ name, result }) => toChart(name, result)),
    data: { machine, outcomes },
  };
}

function toTable({ benchmark, figures, notes }: BenchResult): Table {
  return {
    title: benchmark,
    columns: ["what", "measured", "beside", "goal"],
    rows: [
      ...figures.map(({ name, value, unit, beside, met }) => [
        name,
        `${shown(value)} ${unit}`.trimEnd(),
        beside ?? "",
        met === undefined ? "" : met ? "met" : "not met",
      ]),
      ...notes.map((note) => [note, "", "", ""]),
    ],
  };
}

/** Lengths double from point to point, and times span more than a decade: both axes are logarithmic. */
function toChart(name: string, { benchmark, chart }: BenchResult): Chart[] {
  if (chart === undefined) return [];
  const spec: TopLevelSpec = {
    data: { values: structuredClone(chart.points) }, // Vega marks the objects it draws
    width: 480,
    height: 280,
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "x", type: "quantitative", title: chart.x, scale: { type: "log", base: 2 } },
      y: { field: "y", type: "quantitative", title: chart.y, scale: { type: "log", nice: true } },
      color: { field: "series", type: "nominal", title: null },
    },
  };
  return [{ name, caption: benchmark, spec }];
}

const shown = (value: number | null): string =>
  value === null ? "-" : value.toLocaleString("en", { maximumSignificantDigits: Math.abs(value) >= 1000 ? 6 : 3 });
