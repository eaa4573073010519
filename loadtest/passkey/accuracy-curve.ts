import type { TopLevelSpec } from "vega-lite";
import type { Chart } from "../report/report.js";
import { accuracyOf, distanceBin, groupBy } from "./accuracy.js";
import { MODE_TITLES, MODES } from "./modes.js";
import type { Outcome } from "./try-key.js";

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
  const used = MODES.map((mode) => MODE_TITLES[mode]).filter((title) => points.some(({ mode }) => mode === title));
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
