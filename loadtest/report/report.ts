import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TopLevelSpec } from "vega-lite";
import { renderChart } from "./chart.js";

/** What a command measured, for people (Markdown, pictures) and for programs (JSON). */
export interface Report {
  /** Names the files: `<name>.json`, `<name>.md`, `<name>-<chart>.svg`. */
  readonly name: string;
  readonly title: string;
  /** How it was measured: target, settings, what must be known to read the figures. */
  readonly about: readonly string[];
  readonly tables: readonly Table[];
  readonly charts: readonly Chart[];
  /** The figures themselves, as JSON. */
  readonly data: object;
}

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface Chart {
  readonly name: string;
  /** What the picture shows, in a sentence. */
  readonly caption: string;
  readonly spec: TopLevelSpec;
}

/** Writes a report into a folder, which is made where it is missing. Returns the paths written. */
export async function writeReport(folder: string, report: Report): Promise<string[]> {
  mkdirSync(folder, { recursive: true });
  const written: string[] = [];
  const write = (file: string, text: string): void => {
    writeFileSync(join(folder, file), text);
    written.push(join(folder, file));
  };
  for (const { name, spec } of report.charts) write(`${report.name}-${name}.svg`, await renderChart(spec));
  write(`${report.name}.md`, markdown(report));
  write(`${report.name}.json`, `${JSON.stringify(report.data, null, 1)}\n`);
  return written;
}

function markdown({ name, title, about, tables, charts }: Report): string {
  const pictures = charts.map((chart) => `![${chart.caption}](${name}-${chart.name}.svg)\n\n${chart.caption}`);
  return [`# ${title}`, ...about, ...pictures, ...tables.map(markdownTable), ""].join("\n\n");
}

/** A table as Markdown, under its title. */
export function markdownTable({ title, columns, rows }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [`## ${title}`, "", line(columns), line(columns.map(() => "---")), ...rows.map(line)].join("\n");
}
