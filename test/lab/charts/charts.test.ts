import { describe, expect, test } from "vitest";
import { frontierChart } from "../../../lab/charts/frontier-chart.js";
import { trainingCurves } from "../../../lab/charts/training-curves.js";
import { renderChart } from "../../../loadtest/report/chart.js";

/** The paper's layer 6 (arXiv 2503.24277): l0 and mse. */
const TOP_K = [
  [32, 0.0649],
  [512, 0.0089],
  [1024, 0.000174],
] as const;
const TOP_AFA = [
  [315, 0.132],
  [2037, 0.000164],
] as const;

/** Corners of the first dashed line of a picture. */
const dashedLine = (svg: string): number =>
  /<path [^>]*d="([^"]*)"[^>]*stroke-dasharray="4,3"/.exec(svg)?.[1]?.match(/[ML]/g)?.length ?? 0;

describe("the picture of a frontier", () => {
  const points = [
    ...TOP_K.map(([l0, mse]) => ({ method: "top-k", label: null, l0, mse })),
    ...TOP_AFA.map(([l0, mse], i) => ({ method: "top-AFA", label: `λ 1/${[128, 32][i]}`, l0, mse })),
  ];

  test("has a point for each SAE, and a line through those that no other beats", async () => {
    const { spec, caption } = frontierChart(points, "on held-out tokens");
    const svg = await renderChart(spec);
    expect(svg.match(/aria-roledescription="point"/g)).toHaveLength(5);
    expect(dashedLine(svg)).toBe(4); // all but lambda 1/128
    for (const text of ["top-k", "top-AFA", "λ 1/128", "λ 1/32"]) expect(svg).toContain(`>${text}<`);
    expect(caption).toContain("on held-out tokens");
  });

  test("is drawn of one SAE, too", async () => {
    expect(await renderChart(frontierChart(points.slice(0, 1), "here").spec)).toContain("</svg>");
  });
});

describe("the picture of a training", () => {
  const curve = Array.from({ length: 1000 }, (_, i) => ({ tokens: 2048 * i, mse: 1 / (i + 1), l0: 64, dead: i % 100 }));

  test("shows mse, l0 and the share of dead features over the tokens", async () => {
    const svg = await renderChart(trainingCurves(curve, 1000).spec);
    for (const title of ["mse", "l0", "dead features", "million tokens"]) expect(svg).toContain(`>${title}<`);
    expect(svg.match(/class="mark-line/g)).toHaveLength(3);
  });

  test("has its last point, and no more than can be seen", () => {
    const { data } = trainingCurves(curve, 1000).spec;
    const values = data && "values" in data && Array.isArray(data.values) ? data.values : [];
    expect(values.length).toBeLessThan(500);
    expect(values.at(-1)).toMatchObject({ tokens: (2048 * 999) / 1e6, dead: 0.099 });
  });

  test("is drawn of a training without steps", async () => {
    expect(await renderChart(trainingCurves([], 8).spec)).toContain("</svg>");
  });
});
