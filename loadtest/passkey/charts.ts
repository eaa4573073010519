import type { TopLevelSpec } from "vega-lite";
import type { Chart } from "../report/report.js";
import { type Accuracy, accuracyOf, distanceBin, groupBy } from "./accuracy.js";
import { MODE_TITLES, MODES } from "./modes.js";
import type { TrialSettings } from "./trials.js";
import type { Outcome } from "./try-key.js";

interface Row {
  /** Its name, and where it stands, from the bottom. */
  readonly row: string;
  readonly height: number;
}

interface Cell extends Row, Accuracy {
  readonly mode: string;
  readonly length: number;
  readonly column: string;
  readonly hitsOfTrials: string;
}

/**
 * Accuracy by the prompt's length and the key's distance from its end, and by its depth; a panel for each mode.
 * @param depths as they were chosen; random ones are shown in tenths
 */
export function heatMaps(outcomes: readonly Outcome[], window: number, depths: TrialSettings["depths"]): Chart[] {
  const byDistance = ({ distance }: Outcome): Row => {
    const { from, label } = distanceBin(distance, window);
    return { row: label, height: from };
  };
  const byDepth = ({ depth }: Outcome): Row => {
    if (depths !== "random") return { row: String(Number(depth.toFixed(2))), height: -depth };
    const tenth = Math.min(9, Math.floor(depth * 10));
    return { row: `${tenth / 10}-${(tenth + 1) / 10}`, height: -tenth };
  };
  return [
    {
      name: "distance",
      caption:
        "Keys found, by length of the prompt and distance of the key from its end, in windows; hits of trials in each cell.",
      spec: heatMap(cellsOf(outcomes, byDistance), "distance of key"),
    },
    {
      name: "depth",
      caption: "Keys found, by length of the prompt in windows and depth of the key; hits of trials in each cell.",
      spec: heatMap(cellsOf(outcomes, byDepth), "depth of key"),
    },
  ];
}

function cellsOf(outcomes: readonly Outcome[], rowOf: (outcome: Outcome) => Row): Cell[] {
  const cells = groupBy(
    outcomes,
    (outcome) => ({ mode: outcome.mode, length: outcome.length, ...rowOf(outcome) }),
    ({ height }) => height,
  );
  return cells.map(({ group, values }) => {
    const accuracy = accuracyOf(values);
    const hitsOfTrials = `${accuracy.hits}/${accuracy.trials}`;
    return { ...group, ...accuracy, mode: MODE_TITLES[group.mode], column: `${group.length}x`, hitsOfTrials };
  });
}

const CELL = { width: 46, height: 24 };

function heatMap(cells: readonly Cell[], title: string): TopLevelSpec {
  const columns = [...cells].sort((a, b) => a.length - b.length).map(({ column }) => column);
  const rows = [...cells].sort((a, b) => b.height - a.height).map(({ row }) => row);
  return {
    data: { values: [...cells] },
    facet: { field: "mode", type: "nominal", title: null, sort: modeTitles(), header: { labelFontSize: 13 } },
    columns: 2,
    spec: {
      width: { step: CELL.width },
      height: { step: CELL.height },
      encoding: {
        x: {
          field: "column",
          type: "ordinal",
          sort: [...new Set(columns)],
          title: "length of prompt",
          axis: { labelAngle: 0 },
        },
        y: { field: "row", type: "ordinal", sort: [...new Set(rows)], title },
      },
      layer: [
        {
          mark: { type: "rect", stroke: "white" },
          encoding: {
            color: {
              field: "share",
              type: "quantitative",
              scale: { domain: [0, 1], scheme: "yellowgreenblue" },
              legend: { title: "found", format: ".0%" },
            },
          },
        },
        {
          mark: { type: "text", fontSize: 11 },
          encoding: {
            text: { field: "hitsOfTrials", type: "nominal" },
            color: { condition: { test: "datum.share > 0.55", value: "white" }, value: "black" },
          },
        },
      ],
    },
  };
}

const modeTitles = (): string[] => MODES.map((mode) => MODE_TITLES[mode]);

/** Points of the curve: a mode's accuracy at the distances of a bin, at their geometric mean. */
export function curvePoints(outcomes: readonly Outcome[], window: number) {
  const bins = groupBy(
    outcomes,
    ({ mode, distance }) => ({ mode, ...distanceBin(distance, window) }),
    ({ from }) => from,
  );
  return bins.map(({ group: { mode, label }, values }) => {
    const logs = values.map(({ distance }) => Math.log(Math.max(distance, 1) / window));
    const distance = Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
    return { mode, bin: label, distance, ...accuracyOf(values) };
  });
}

const DASHES = [
  [1, 0],
  [8, 3],
  [5, 3],
  [2, 3],
  [1, 0],
];

/** Accuracy against distance, a line for each mode within its 95 % band, and where the window ends. */
export function accuracyCurve(outcomes: readonly Outcome[], window: number): Chart {
  const points = curvePoints(outcomes, window).map((point) => ({ ...point, mode: MODE_TITLES[point.mode] }));
  const used = modeTitles().filter((title) => points.some(({ mode }) => mode === title));
  const spec: TopLevelSpec = {
    width: 560,
    height: 280,
    layer: [
      {
        data: { values: points },
        encoding: {
          x: {
            field: "distance",
            type: "quantitative",
            scale: { type: "log", base: 2, nice: false, padding: 12 },
            title: "distance of the key from the end, in windows",
            axis: { format: "~r" },
          },
          color: {
            field: "mode",
            type: "nominal",
            title: null,
            scale: { scheme: "tableau10", domain: used },
            legend: { symbolOpacity: 1 },
          },
        },
        layer: [
          {
            mark: { type: "area", opacity: 0.18 },
            encoding: {
              y: { field: "low", type: "quantitative", title: "keys found", axis: { format: ".0%" } },
              y2: { field: "high" },
            },
          },
          {
            // Dashes, so that lines on top of each other are both seen.
            mark: { type: "line", point: { opacity: 1 } },
            encoding: {
              y: { field: "share", type: "quantitative" },
              strokeDash: { field: "mode", type: "nominal", title: null, scale: { domain: used, range: DASHES } },
            },
          },
        ],
      },
      {
        data: { values: [{ window: 1, text: "window" }] },
        encoding: { x: { field: "window", type: "quantitative" } },
        layer: [
          { mark: { type: "rule", strokeDash: [4, 4] } },
          {
            mark: { type: "text", align: "left", dx: 4, y: 8 },
            encoding: { text: { field: "text", type: "nominal" } },
          },
        ],
      },
    ],
  };
  const caption = "Keys found, by the key's distance from the end of the prompt, with 95 % bands (Wilson).";
  return { name: "curve", caption, spec };
}
