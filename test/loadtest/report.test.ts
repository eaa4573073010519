import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { markdownTable, type Report, terminalTable, writeReport } from "../../loadtest/report/report.js";
import { wilsonInterval } from "../../loadtest/report/wilson-interval.js";
import { temporaryFolder } from "../models/weights/write-safetensors.js";

const TABLE = {
  title: "Accuracy",
  columns: ["mode", "hits", "note"],
  rows: [
    ["lambda", "7", "a | b"],
    ["lambda + retrieve", "1200", "two\nlines"],
  ],
};

const REPORT: Report = {
  name: "words",
  title: "Words",
  about: ["Measured here."],
  tables: [TABLE],
  charts: [
    {
      name: "hits",
      caption: "Hits by mode",
      spec: {
        data: { values: [{ mode: "lambda", hits: 7 }] },
        mark: "bar",
        encoding: { x: { field: "mode", type: "nominal" }, y: { field: "hits", type: "quantitative" } },
      },
    },
  ],
  data: { hits: [7, 1200] },
};

describe("a report", () => {
  test("is JSON, Markdown that shows the pictures, and the pictures as SVG, in a folder made for it", async () => {
    const folder = join(temporaryFolder(), "reports", "words");
    const written = await writeReport(folder, REPORT);
    expect(written).toEqual(["words.json", "words.md", "words-hits.svg"].map((file) => join(folder, file)));
    const [json, markdown, svg] = written.map((path) => readFileSync(path, "utf8"));
    expect(JSON.parse(json ?? "")).toEqual(REPORT.data);
    expect(markdown).toContain("# Words\n\nMeasured here.\n\n![Hits by mode](words-hits.svg)");
    expect(svg).toMatch(/^<svg .*lambda.*<\/svg>$/s);
  });

  test("keeps its figures where a chart cannot be drawn", async () => {
    const folder = temporaryFolder();
    const broken = { name: "broken", caption: "Nothing", spec: { mark: "no such mark", data: { values: [] } } };
    // @ts-expect-error: no such mark
    await expect(writeReport(folder, { ...REPORT, charts: [broken] })).rejects.toThrow();
    expect(JSON.parse(readFileSync(join(folder, "words.json"), "utf8"))).toEqual(REPORT.data);
    expect(readFileSync(join(folder, "words.md"), "utf8")).toContain("| lambda | 7 |");
  });

  test("has tables that a cell cannot break", () => {
    expect(markdownTable(TABLE)).toBe(
      [
        "## Accuracy",
        "",
        "| mode | hits | note |",
        "| --- | --- | --- |",
        "| lambda | 7 | a \\| b |",
        "| lambda + retrieve | 1200 | two lines |",
      ].join("\n"),
    );
  });

  test("has tables in columns on a terminal, figures to the right", () => {
    expect(
      terminalTable({ ...TABLE, columns: TABLE.columns.slice(0, 2), rows: TABLE.rows.map((row) => row.slice(0, 2)) }),
    ).toBe(
      ["Accuracy", "  mode               hits", "  lambda                7", "  lambda + retrieve  1200"].join("\n"),
    );
  });
});

test("Wilson's interval holds at the ends and for few trials", () => {
  expect(wilsonInterval(0, 0)).toEqual([0, 1]);
  // Newcombe 1998, Statistics in Medicine 17, table I, method 3.
  for (const [hits, trials, low, high] of [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ] as const) {
    const interval = wilsonInterval(hits, trials);
    expect(interval[0]).toBeCloseTo(low, 4);
    expect(interval[1]).toBeCloseTo(high, 4);
  }
});
