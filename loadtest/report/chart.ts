import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** A Vega-Lite chart as SVG text. @throws Error where the specification is wrong. */
export async function renderChart(spec: TopLevelSpec): Promise<string> {
  const config = { font: "system-ui, sans-serif", background: "white", ...spec.config };
  const view = new View(parse(compile({ ...spec, config }).spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
