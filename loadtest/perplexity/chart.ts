import type { TopLevelSpec } from "vega-lite";
import type { BucketRow } from "./bucket-row.js";
import { GOAL } from "./goal.js";
import type { Window } from "./modes.js";

type Layer = Extract<TopLevelSpec, { layer: unknown }>["layer"][number];

const WIDTH = 620;
/** Where the curve of the first bucket, [1, 16), begins. */
const FIRST_MIDDLE = 4;
const SERIES = ["lambda", "full attention", "last W re-encoded", "truncation"];
const COLOURS = ["#1f6feb", "#d1242f", "#57606a", "#bf8700"];

/** NLL by position, and how far lambda is above the re-encoded window; documents and the window as rules. */
export function nllChart(
  rows: readonly BucketRow[],
  { window }: Window,
  documents: readonly { readonly name: string; readonly start: number }[],
): TopLevelSpec {
  const domain: number[] = [FIRST_MIDDLE, Math.max(rows.at(-1)?.to ?? 0, 2 * FIRST_MIDDLE)];
  const position = {
    field: "position",
    type: "quantitative",
    scale: { type: "log", domain, nice: false },
    axis: { title: "position in the sequence (tokens)", format: "~s", grid: false, tickCount: 8 },
  } as const;
  const points = rows.flatMap((row) => {
    const at = (series: string | undefined, figure: { readonly nll: number } | null) =>
      figure === null ? [] : [{ position: middleOf(row), series, nll: figure.nll }];
    return [
      ...at(SERIES[0], row.lambda),
      ...at(SERIES[1], row.full),
      ...at(SERIES[2], row.reEncoded),
      ...at(SERIES[3], row.truncation),
    ];
  });
  const above = rows.flatMap((row) => {
    const { lambdaAbove, standardError } = row.reEncoded ?? {};
    if (typeof lambdaAbove !== "number") return [];
    const error = standardError ?? 0;
    return [{ position: middleOf(row), above: lambdaAbove, low: lambdaAbove - error, high: lambdaAbove + error }];
  });
  const rules = [
    { position: window, name: "window" },
    ...documents.filter(({ start }) => start > 0).map(({ name, start }) => ({ position: start, name })),
  ];
  const rule: Layer = {
    data: { values: rules },
    mark: { type: "rule", color: "#8c959f", strokeDash: [3, 3] },
    encoding: { x: position },
  };
  const names: Layer = {
    data: { values: rules },
    mark: { type: "text", angle: 270, align: "right", dy: -5, fontSize: 9, color: "#57606a" },
    encoding: { x: position, y: { value: 4 }, text: { field: "name" } },
  };
  const colour = { field: "series", scale: { domain: SERIES, range: COLOURS }, title: null } as const;
  const curves: Layer = {
    data: { values: points },
    mark: { type: "line", point: { size: 18 }, strokeWidth: 1.5 },
    encoding: {
      x: position,
      y: { field: "nll", type: "quantitative", scale: { zero: false }, axis: { title: "NLL (nat per token)" } },
      color: { ...colour, type: "nominal", legend: { orient: "top" } },
    },
  };
  const differences: Layer[] = [
    {
      data: { values: above },
      mark: { type: "rule", color: COLOURS[0] ?? "" },
      encoding: { x: position, y: { field: "low", type: "quantitative" }, y2: { field: "high" } },
    },
    {
      data: { values: above },
      mark: { type: "point", filled: true, size: 24, color: COLOURS[0] ?? "" },
      encoding: {
        x: position,
        y: { field: "above", type: "quantitative", axis: { title: "lambda − re-encoded (± s.e.)", tickCount: 5 } },
      },
    },
    {
      data: { values: [{ goal: GOAL }] },
      mark: { type: "rule", color: "#1a7f37", strokeDash: [6, 3] },
      encoding: { y: { field: "goal", type: "quantitative" } },
    },
    {
      data: { values: [{ goal: GOAL }] },
      mark: { type: "text", align: "left", dx: 4, dy: -6, fontSize: 9, color: "#1a7f37", text: `goal ${GOAL}` },
      encoding: { x: { value: 0 }, y: { field: "goal", type: "quantitative" } },
    },
  ];
  return {
    vconcat: [
      { width: WIDTH, height: 260, layer: [rule, names, curves] },
      { width: WIDTH, height: 130, layer: [rule, ...differences] },
    ],
  };
}

/** Where a bucket stands on a logarithmic axis. */
const middleOf = ({ from, to }: BucketRow): number => Math.sqrt(from * to);
