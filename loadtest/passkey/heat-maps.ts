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
    facet: {
      field: "mode",
      type: "nominal",
      title: null,
      sort: MODES.map((mode) => MODE_TITLES[mode]),
      header: { labelFontSize: 13 },
    },
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
