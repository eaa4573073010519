import type { TopLevelSpec } from "vega-lite";
import type { Chart } from "../../loadtest/report/report.js";
import type { Evaluation, SaeEvaluation } from "./evaluation.js";
import { DENSITY_EDGES } from "./feature-counts.js";
import { ZF_BANDS } from "./zf-plot.js";

type Panel = Extract<TopLevelSpec, { concat: unknown }>["concat"][number];

const PANEL = { width: 220, height: 180 };
const COLUMNS = 3;
/** Bins of eps_LBO: ten of a decade. */
const BINS_PER_DECADE = 10;

/** The pictures of an evaluation; SAEs stand beside each other. */
export const evaluationCharts = ({ saes }: Evaluation): Chart[] => [
  {
    name: "zf",
    caption:
      "ZF plot, in the scale of the residuals: length of the input |xn| and of the features with the bias, sqrt(|f|² + |b_dec|²), a point for each token. Red: equal. Grey: the bands c = 0.25, 0.5 and 1, slopes 1 / sqrt(1 ± c).",
    spec: zfChart(saes),
  },
  {
    name: "eps-lbo",
    caption:
      "Distribution of eps_LBO = ||z|² − |f|²| / ((h − 1) |f|²) over tokens, times h − 1: how far the features' length is from the input's.",
    spec: epsLboChart(saes),
  },
  {
    name: "density",
    caption: "Alive features by the share of tokens at which they are active.",
    spec: densityChart(saes),
  },
];

const zfChart = (saes: readonly SaeEvaluation[]): TopLevelSpec => ({ concat: saes.map(zfPanel), columns: COLUMNS });

function zfPanel({ sae, zf }: SaeEvaluation): Panel {
  const points = Array.from({ length: zf.points.length / 2 }, (_, i) => ({
    input: zf.points[2 * i]!,
    features: zf.points[2 * i + 1]!,
  }));
  const most = 1.05 * Math.max(...points.flatMap(({ input, features }) => [input, features]), 1e-6);
  const domain: number[] = [0, most];
  const axis = (field: string, title: string) =>
    ({ field, type: "quantitative", scale: { domain, nice: false }, title }) as const;
  const x = axis("input", "length of the input");
  const y = axis("features", "length of the features");
  const line = (slope: number) => [
    { slope, input: 0, features: 0 },
    { slope, input: Math.min(most, most / slope), features: Math.min(most, slope * most) },
  ];
  // The upper slope of the band 1 is infinite.
  const slopes = ZF_BANDS.flatMap((c) => [1 / Math.sqrt(1 + c), ...(c < 1 ? [1 / Math.sqrt(1 - c)] : [])]);
  return {
    title: sae.id,
    ...PANEL,
    layer: [
      {
        data: { values: slopes.flatMap(line) },
        mark: { type: "line", color: "#8c959f", strokeWidth: 0.8, strokeDash: [4, 3] },
        encoding: { x, y, detail: { field: "slope", type: "nominal" } },
      },
      { data: { values: line(1) }, mark: { type: "line", color: "#d1242f", strokeWidth: 1 }, encoding: { x, y } },
      {
        data: { values: points },
        mark: { type: "circle", size: 6, opacity: 0.5, color: "#1f6feb" },
        encoding: { x, y },
      },
    ],
  };
}

function epsLboChart(saes: readonly SaeEvaluation[]): TopLevelSpec {
  const values = saes.flatMap(({ sae, epsLbo }) => {
    const scale = sae.compiled.description.dSae - 1;
    const bins = new Map<number, number>();
    for (const value of epsLbo.values) {
      if (!(value > 0)) continue;
      const bin = Math.floor(Math.log10(scale * value) * BINS_PER_DECADE);
      bins.set(bin, (bins.get(bin) ?? 0) + 1);
    }
    return [...bins].map(([bin, count]) => ({
      sae: sae.id,
      value: 10 ** ((bin + 0.5) / BINS_PER_DECADE),
      share: count / epsLbo.values.length,
    }));
  });
  return {
    data: { values },
    width: 560,
    height: 260,
    mark: { type: "line", interpolate: "step" },
    encoding: {
      x: {
        field: "value",
        type: "quantitative",
        scale: { type: "log", nice: false },
        title: "(h − 1) eps_LBO",
        axis: { format: "~g" },
      },
      y: { field: "share", type: "quantitative", title: "share of tokens", axis: { format: ".0%" } },
      color: colour(saes),
    },
  };
}

function densityChart(saes: readonly SaeEvaluation[]): TopLevelSpec {
  const values = saes.flatMap(({ sae, features }) =>
    features.histogram.map((count, bin) => ({
      sae: sae.id,
      density: 10 ** ((DENSITY_EDGES[bin]! + DENSITY_EDGES[bin + 1]!) / 2),
      count,
    })),
  );
  const first = Math.min(...values.filter(({ count }) => count > 0).map(({ density }) => density), 1e-4);
  return {
    data: { values: values.filter(({ density }) => density >= first / 2) },
    width: 560,
    height: 260,
    mark: { type: "line", interpolate: "step" },
    encoding: {
      x: {
        field: "density",
        type: "quantitative",
        scale: { type: "log", nice: false },
        title: "share of tokens at which a feature is active",
        axis: { format: "~g" },
      },
      y: { field: "count", type: "quantitative", title: "features" },
      color: colour(saes),
    },
  };
}

const colour = (saes: readonly SaeEvaluation[]) =>
  ({
    field: "sae",
    type: "nominal",
    title: null,
    scale: { scheme: "tableau10", domain: saes.map(({ sae }) => sae.id) },
    legend: { orient: "top" },
  }) as const;
