import type { TopLevelSpec } from "vega-lite";
import type { Chart } from "../../loadtest/report/report.js";

/** A line of a training's curve.jsonl, as far as it is drawn. */
export interface CurvePoint {
  readonly tokens: number;
  readonly mse: number;
  /** Mean number of kept features. */
  readonly l0: number;
  /** Number of dead features. */
  readonly dead: number;
}

/** Points of a line in the picture: more are not seen. */
const MOST_POINTS = 400;

/**
 * How a training went: mse (logarithmic), l0 and the share of dead features over the tokens that were seen.
 * @param dSae number of features
 */
export function trainingCurves(points: readonly CurvePoint[], dSae: number): Chart {
  const every = Math.ceil(points.length / MOST_POINTS);
  const values = points
    .filter((_, i) => i % every === 0 || i === points.length - 1)
    .map(({ tokens, mse, l0, dead }) => ({ tokens: tokens / 1e6, mse, l0, dead: dead / dSae }));
  const row = (field: "mse" | "l0" | "dead", title: string, colour: string, y: object): Row => ({
    width: 560,
    height: 110,
    mark: { type: "line", color: colour, strokeWidth: 1.5 },
    encoding: {
      x: {
        field: "tokens",
        type: "quantitative",
        scale: { nice: false },
        title: field === "dead" ? "million tokens" : null,
        axis: { format: "~r" },
      },
      y: { field, type: "quantitative", title, ...y },
    },
  });
  return {
    name: "curves",
    caption: "Error, active features of a token and dead features over the tokens of the training.",
    spec: {
      data: { values },
      vconcat: [
        row("mse", "mse", "#4c78a8", { scale: { type: "log", nice: false } }),
        row("l0", "l0", "#f58518", { scale: { zero: true } }),
        row("dead", "dead features", "#72b7b2", { scale: { zero: true }, axis: { format: ".0%" } }),
      ],
    },
  };
}

type Row = Extract<TopLevelSpec, { vconcat: unknown }>["vconcat"][number];
