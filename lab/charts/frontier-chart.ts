import type { Chart } from "../../loadtest/report/report.js";
import { frontier } from "../statistics/frontier.js";

/** One SAE in a picture of many. */
export interface PlottedSae {
  /** What made it; each has a colour. */
  readonly method: string;
  /** Written beside its point; null: nothing. */
  readonly label: string | null;
  readonly l0: number;
  readonly mse: number;
}

const TITLES = { l0: "active features of a token (l0)", mse: "mse of the normalised input" };

/**
 * Error against sparsity of SAEs, both on logarithmic axes: a point for each, a colour for each method, and the frontier through
 * those that no other beats in both.
 * @param points with l0 and mse above 0
 * @param where the numbers come from, for the caption
 */
export function frontierChart(points: readonly PlottedSae[], where: string): Chart {
  const best = frontier(points).map((number) => points[number]!);
  const position = {
    x: {
      field: "l0",
      type: "quantitative",
      scale: { type: "log", base: 2, nice: false, padding: 16 },
      title: TITLES.l0,
      axis: { format: "~r", gridOpacity: 0.5 },
    },
    y: {
      field: "mse",
      type: "quantitative",
      scale: { type: "log", nice: false, padding: 16 },
      title: TITLES.mse,
      axis: { format: "~g", gridOpacity: 0.5 },
    },
  } as const;
  const methods = [...new Set(points.map(({ method }) => method))];
  const colour = {
    field: "method",
    type: "nominal",
    title: null,
    scale: { scheme: "tableau10", domain: methods },
  } as const;
  return {
    name: "mse-l0",
    caption: `Error and sparsity of each SAE, ${where}; the line joins those that no other beats in both.`,
    spec: {
      width: 560,
      height: 320,
      layer: [
        {
          data: { values: best },
          mark: { type: "line", color: "#8c959f", strokeWidth: 1, strokeDash: [4, 3] },
          encoding: { ...position, order: { field: "l0", type: "quantitative" } },
        },
        {
          data: { values: [...points] },
          mark: { type: "point", filled: true, size: 48, opacity: 1 },
          encoding: {
            ...position,
            color: { ...colour, legend: { orient: "top" } },
            shape: { field: "method", type: "nominal", title: null, scale: { domain: methods } },
          },
        },
        {
          data: { values: points.filter(({ label }) => label !== null) },
          mark: { type: "text", align: "left", baseline: "bottom", dx: 5, dy: -2, fontSize: 9 },
          encoding: { ...position, color: colour, text: { field: "label", type: "nominal" } },
        },
      ],
    },
  };
}
