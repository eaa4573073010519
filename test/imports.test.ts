import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { packageRoot } from "../models/package-root.js";

/** Which folder's files may import from which others. Tests may import from all. */
const imports: Record<string, readonly string[]> = {
  models: [],
  loadtest: [],
  lab: [
    "models",
    "runtime/contract",
    "runtime/ort",
    "runtime/cache",
    "runtime/saes",
    "runtime/sampling",
    "runtime/prompts",
    "runtime/graphs",
    "runtime/calibration",
  ],
  server: ["models", "runtime/contract"],
  "runtime/contract": ["models"],
  "runtime/ort": ["models", "runtime/contract"],
  "runtime/cache": ["models", "runtime/contract", "runtime/ort"],
  "runtime/saes": ["models", "runtime/contract", "runtime/ort"],
  "runtime/sampling": ["models", "runtime/contract", "runtime/ort"],
  "runtime/prompts": ["models", "runtime/contract", "runtime/ort"],
  "runtime/graphs": ["models", "runtime/contract", "runtime/ort", "runtime/cache"],
  "runtime/calibration": ["models", "runtime/contract", "runtime/ort", "runtime/cache", "runtime/graphs"],
  "runtime/engine": [
    "models",
    "runtime/contract",
    "runtime/ort",
    "runtime/cache",
    "runtime/saes",
    "runtime/sampling",
    "runtime/prompts",
    "runtime/graphs",
    "runtime/calibration",
  ],
};
const folders = Object.keys(imports);
/** A folder within one of them, from where the paths of imports are longer. */
const NESTED = "runtime/ort/installation";

/** Each way to import a file, one a line. */
const importsOf = (target: string): string =>
  [
    `import { a } from "${target}";`,
    `import type { B } from "${target}";`,
    `export { c } from "${target}";`,
    `export const d = [a, await import("${target}")] satisfies B[];`,
    "",
  ].join("\n");
const EVERY_WAY = 4;

const Report = z.object({
  diagnostics: z.array(z.object({ location: z.object({ path: z.string() }) })),
});

describe("the linter and what a folder's files may import", () => {
  const root = mkdtempSync(join(tmpdir(), "lambdatap-imports-"));
  /** How often the linter refused an import, by the file that imports. */
  const refused = new Map<string, number>();

  const importing = (file: string, target: string): void => {
    mkdirSync(join(root, dirname(file)), { recursive: true });
    writeFileSync(join(root, file), importsOf(relative(dirname(file), target)));
  };
  const fileBetween = (from: string, to: string): string => `${from}/imports-${to.replace("/", "-")}.ts`;

  beforeAll(async () => {
    for (const config of ["biome.json", "biome.imports.json"])
      copyFileSync(join(packageRoot(), config), join(root, config));
    for (const from of [...folders, NESTED])
      for (const to of [...folders, "test"]) importing(fileBetween(from, to), `${to}/index.js`);
    for (const file of ["server/cli/start-engine.ts", "server/cli/models.ts", "server/routes/models.ts"])
      importing(file, "runtime/engine/engine.js");
    importing("server/cli/lab/train.ts", "lab/train/train.js");
    importing("server/routes/features.ts", "lab/train/train.js");
    importing("lab/eval/charts.ts", "loadtest/report/chart.js");
    importing("server/cli/doctor.ts", "runtime/prompts/encoder.js");
    importing("server/cli/doctor-device.ts", "runtime/ort/library.js");
    importing("server/cli/doctor-loop.ts", "runtime/engine/loop.js");

    const biome = join(packageRoot(), "node_modules/@biomejs/biome/bin/biome");
    const flags = ["lint", "--vcs-enabled=false", "--only=noRestrictedImports", "--reporter=json"];
    const output = await new Promise<string>((done) =>
      execFile(process.execPath, [biome, ...flags, "--max-diagnostics=none"], { cwd: root }, (_, stdout) =>
        done(stdout),
      ),
    );
    for (const { location } of Report.parse(JSON.parse(output)).diagnostics)
      refused.set(location.path, (refused.get(location.path) ?? 0) + 1);
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  test("every folder of code has its line", () => {
    const { include } = z
      .object({ include: z.array(z.string()) })
      .parse(JSON.parse(readFileSync(join(packageRoot(), "tsconfig.json"), "utf8")));
    const wings = readdirSync(join(packageRoot(), "runtime")).map((wing) => `runtime/${wing}`);
    const houses = include.filter((house) => house !== "runtime" && house !== "test");
    expect([...folders].sort()).toEqual([...houses, ...wings].sort());
  });

  for (const from of [...folders, NESTED]) {
    const folder = from === NESTED ? "runtime/ort" : from;
    const others = imports[folder] ?? [];
    test(`${from}/ imports ${others.join(", ") || "none of the others"}`, () => {
      for (const to of [...folders, "test"]) {
        const may = to === folder || others.includes(to);
        expect([to, refused.get(fileBetween(from, to)) ?? 0]).toEqual([to, may ? 0 : EVERY_WAY]);
      }
    });
  }

  test("of the server only its command line imports the lab, which draws with the charts of loadtest", () => {
    expect(refused.get("server/cli/lab/train.ts")).toBeUndefined();
    expect(refused.get("server/routes/features.ts")).toBe(EVERY_WAY);
    expect(refused.get("lab/eval/charts.ts")).toBeUndefined();
  });

  test("only what starts the engine imports it, and only the doctor looks at the machine itself", () => {
    expect(refused.get("server/cli/start-engine.ts")).toBeUndefined();
    expect(refused.get("server/cli/models.ts")).toBe(EVERY_WAY);
    expect(refused.get("server/routes/models.ts")).toBe(EVERY_WAY);
    expect(refused.get("server/cli/doctor.ts")).toBeUndefined();
    expect(refused.get("server/cli/doctor-device.ts")).toBeUndefined();
    expect(refused.get("server/cli/doctor-loop.ts")).toBe(EVERY_WAY);
  });
});
