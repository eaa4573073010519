import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TopLevelSpec } from "vega-lite";

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
  // The figures first: a chart that cannot be drawn must not cost them.
  write(`${report.name}.json`, `${JSON.stringify(report.data, null, 1)}\n`);
  write(`${report.name}.md`, markdown(report));
  if (report.charts.length === 0) return written;
  const { renderChart } = await import("./chart.js");
  for (const { name, spec } of report.charts) write(`${report.name}-${name}.svg`, await renderChart(spec));
  return written;
}

function markdown({ name, title, about, tables, charts }: Report): string {
  const pictures = charts.map((chart) => `![${chart.caption}](${name}-${chart.name}.svg)\n\n${chart.caption}`);
  return [`# ${title}`, ...about, ...pictures, ...tables.map(markdownTable), ""].join("\n\n");
}

/** A table as Markdown, under its title. */
export function markdownTable({ title, columns, rows }: Table): string {
  const inCell = (text: string) => text.replaceAll("|", "\\|").replaceAll(/\s*\n\s*/g, " ");
  const line = (cells: readonly string[]) => `| ${cells.map(inCell).join(" | ")} |`;
  return [`## ${title}`, "", line(columns), line(columns.map(() => "---")), ...rows.map(line)].join("\n");
}

/** The same for a terminal: aligned columns, the first to the left, the others to the right where they are figures. */
export function terminalTable({ title, columns, rows }: Table): string {
  const lines = [columns, ...rows];
  const widths = columns.map((_, column) => Math.max(...lines.map((row) => row[column]?.length ?? 0)));
  const isFigures = columns.map(
    (_, column) => column > 0 && rows.every((row) => /^[-\d]?[-\d.,/ x→]*$/.test(row[column] ?? "")),
  );
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (isFigures[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [title, ...lines.map((row) => `  ${line(row)}`)].join("\n");
}
