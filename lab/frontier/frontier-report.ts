import { type Report, type Table, terminalTable } from "../../loadtest/report/report.js";
import { frontierChart } from "../charts/frontier-chart.js";
import { frontier } from "../statistics/frontier.js";
import {
  BASELINES,
  besideBaseline,
  type Comparison,
  compareBest,
  figure,
  lossesAtEqualL0,
  mseAt,
  verdict,
} from "./comparison.js";
import { bestOf, METHOD_TITLES, METHODS, meanOfLast, type RunResult, runTitle, settingTitle } from "./frontier-run.js";

/** How the trainings were made, as the report tells it. */
export interface FrontierSettings {
  readonly model: string;
  readonly hook: string;
  readonly width: number;
  readonly steps: number;
  readonly batch: number;
  readonly vectors: number;
  readonly heldOut: number;
  /** The first is that of the curve. */
  readonly seeds: readonly number[];
}

/** The result of one training, in a line. */
export const resultLine = (result: RunResult): string =>
  `${runTitle(result)}: held out mse ${figure(result.heldOut.mse)} at l0 ${figure(result.heldOut.l0)}`;

/** The sentences and tables of a report, for a terminal. */
export const frontierTables = ({ about, tables }: Report): string =>
  [...about, ...tables.map(terminalTable)].join("\n\n");

/** What the trainings say, as tables, a picture and JSON. */
export function frontierReport(settings: FrontierSettings, results: readonly RunResult[]): Report {
  const [firstSeed = 1] = settings.seeds;
  const losses = lossesAtEqualL0(results, firstSeed);
  const curve = results.filter(({ seed }) => seed === firstSeed);
  const comparisons = compareBest(results, firstSeed, settings.seeds);
  const first = comparisons.filter(({ topAfa }) => topAfa.seed === firstSeed);
  const points = curve.map(({ method, setting, heldOut }) => ({
    ...{ method: METHOD_TITLES[method], ...heldOut },
    label: method === "top-afa" ? settingTitle({ method, setting }) : null,
  }));
  const best = new Set(frontier(points));
  const tables = [
    curveTable(curve, best),
    equalTable(curve, firstSeed),
    seedsTable(results, settings.seeds),
    welchTable(comparisons),
  ];
  return {
    name: "frontier",
    title: "Error and sparsity of SAEs",
    about: [
      aboutRuns(settings),
      ...(losses === null ? [] : [losses]),
      ...BASELINES.flatMap((method) => besideBaseline(results, method, firstSeed) ?? []),
      ...first.map(verdict),
      "The test is the one of arXiv 2503.24277, which leaves l0 as it comes out. Steps of one run share their weights, so p says that two runs ended at different errors, not that one method is better.",
    ],
    tables: tables.filter(({ rows }) => rows.length > 0),
    charts: points.length === 0 ? [] : [frontierChart(points, "on tokens that were not trained on")],
    data: {
      settings,
      runs: results.map(({ last, ...result }, i) => ({
        ...result,
        last: { mse: meanOfLast(results[i]!, "mse"), l0: meanOfLast(results[i]!, "l0"), steps: last.mse.length },
      })),
      frontier: [...best].map((number) => ({ method: curve[number]!.method, setting: curve[number]!.setting })),
      welch: comparisons.map(({ topAfa, baseline, test }) => ({
        ...{ seed: topAfa.seed, lambda: topAfa.setting, baseline: baseline.method, k: baseline.setting, ...test },
        l0: { "top-afa": meanOfLast(topAfa, "l0"), [baseline.method]: meanOfLast(baseline, "l0") },
        mse: { "top-afa": meanOfLast(topAfa, "mse"), [baseline.method]: meanOfLast(baseline, "mse") },
      })),
      at_equal_l0: losses,
    },
  };
}

const aboutRuns = ({ model, hook, width, steps, batch, vectors, heldOut }: FrontierSettings): string =>
  `SAEs of ${width} features on ${hook} of ${model}: ${steps} steps of ${batch} activations each, out of one file of ${vectors}; held-out figures are of ${heldOut} others. mse is that of the normalised input.`;

function curveTable(curve: readonly RunResult[], best: ReadonlySet<number>): Table {
  const rows = curve.map((result, number) => [
    ...[METHOD_TITLES[result.method], settingTitle(result)],
    ...[figure(result.heldOut.l0), figure(result.heldOut.mse)],
    ...[figure(meanOfLast(result, "l0")), figure(meanOfLast(result, "mse"))],
    ...[String(result.dead), best.has(number) ? "yes" : ""],
  ]);
  return {
    title: "All settings, one seed",
    columns: [
      "method",
      "setting",
      "l0 held out",
      "mse held out",
      "l0, last steps",
      "mse, last steps",
      "dead",
      "frontier",
    ],
    rows,
  };
}

function equalTable(curve: readonly RunResult[], seed: number): Table {
  const times = (own: number, other: number | null) =>
    other === null ? "-" : `${figure(other)} (${(own / other).toFixed(2)} times)`;
  const rows = curve
    .filter(({ method }) => method === "top-afa")
    .map(({ method, setting, heldOut: { l0, mse } }) => [
      ...[settingTitle({ method, setting }), figure(l0), figure(mse)],
      ...BASELINES.map((baseline) => times(mse, mseAt(curve, baseline, seed, l0))),
    ]);
  return {
    title:
      "top-AFA beside baselines of the same l0, held out (between two runs of theirs; how many times theirs its mse is)",
    columns: ["top-AFA", "l0", "mse", "top-k", "batch-top-k"],
    rows,
  };
}

function seedsTable(results: readonly RunResult[], seeds: readonly number[]): Table {
  const spread = (values: readonly number[]) => `${figure(Math.min(...values))} to ${figure(Math.max(...values))}`;
  const rows = METHODS.flatMap((method) => {
    const best = bestOf(results, method, seeds[0] ?? 1);
    if (best === null) return [];
    const own = results.filter((result) => result.method === method && result.setting === best.setting);
    return [
      [
        ...[METHOD_TITLES[method], settingTitle(best), String(own.length)],
        ...[
          spread(own.map((result) => meanOfLast(result, "l0"))),
          spread(own.map((result) => meanOfLast(result, "mse"))),
        ],
        ...[spread(own.map(({ heldOut }) => heldOut.l0)), spread(own.map(({ heldOut }) => heldOut.mse))],
      ],
    ];
  });
  return {
    title: "The setting of each method with the least mse over the last steps, over its seeds",
    columns: ["method", "setting", "seeds", "l0, last steps", "mse, last steps", "l0 held out", "mse held out"],
    rows,
  };
}

function welchTable(comparisons: readonly Comparison[]): Table {
  const rows = comparisons.map(({ topAfa, baseline, test: { t, df, p } }) => [
    `${METHOD_TITLES[topAfa.method]} ${settingTitle(topAfa)} and ${METHOD_TITLES[baseline.method]} ${settingTitle(baseline)}`,
    String(topAfa.seed),
    ...[topAfa, baseline].map((run) => `${figure(meanOfLast(run, "mse"))} at l0 ${figure(meanOfLast(run, "l0"))}`),
    ...[t.toFixed(2), df.toFixed(1), p.toExponential(1)],
  ]);
  return {
    title: "Welch's test of the mse over the last steps (t below 0: that of top-AFA is lower)",
    columns: ["runs", "seed", "top-AFA", "baseline", "t", "df", "p"],
    rows,
  };
}
