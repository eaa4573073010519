import { execFile, spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { benchReport } from "../../loadtest/bench/bench-report.js";
import { readResult } from "../../loadtest/bench/result.js";
import { benchmarkFile, runBenchmark } from "../../loadtest/bench/run-benchmark.js";
import { writeReport } from "../../loadtest/report/report.js";
import { temporaryFolder } from "../models/weights/write-safetensors.js";

const SCRIPT = fileURLToPath(new URL("../../loadtest/bench.js", import.meta.url));

const result = {
  benchmark: "decode: a model",
  figures: [
    { name: "step", value: 12.345, unit: "ms", beside: "floor 10 ms", met: true },
    { name: "share", value: 61, unit: "%", beside: "goal 80 %", met: false },
  ],
  notes: ["2 threads"],
  chart: {
    x: "tokens",
    y: "ms",
    points: [
      { series: "lambda", x: 2048, y: 10 },
      { series: "lambda", x: 4096, y: 10 },
    ],
  },
};

function script(text: string): string {
  const path = join(temporaryFolder(), "benchmark.mjs");
  writeFileSync(path, text);
  return path;
}

describe("a benchmark", () => {
  const nobody = new AbortController().signal;

  test("is read from the last line that it prints", async () => {
    const line = JSON.stringify(result);
    expect(
      await runBenchmark(script(`console.log("warming up"); console.log(${JSON.stringify(line)})`), nobody),
    ).toEqual(result);
  });

  test.each([
    ["it ended with 3", "process.exit(3)"],
    ["it ended with SIGKILL", "process.kill(process.pid, 'SIGKILL')"],
    ["it printed no result: hello", "console.log('hello')"],
    ["it printed no result: ", ""],
  ])("that fails says how: %s", async (message, text) => {
    await expect(runBenchmark(script(text), nobody)).rejects.toThrow(message);
  });

  test("ends with the signal", async () => {
    const abort = new AbortController();
    const running = runBenchmark(script("setInterval(() => {}, 1000)"), abort.signal);
    abort.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
  });

  test("whose figures are no figures is refused", () => {
    expect(() => readResult(JSON.stringify({ ...result, figures: [{ name: "step" }] }))).toThrow();
  });
});

test("the report has a table for each benchmark, its picture, and what is missing", async () => {
  const folder = temporaryFolder();
  const outcomes = [
    { name: "decode", result },
    { name: "peer", result: null, failure: "it ended with 1" },
  ];
  await writeReport(folder, benchReport(outcomes));
  const text = readFileSync(join(folder, "bench.md"), "utf8");
  expect(text).toContain("| step | 12.3 ms | floor 10 ms | met |");
  expect(text).toContain("| share | 61 % | goal 80 % | not met |");
  expect(text).toContain("Goals not met: share.");
  expect(text).toContain("peer gave no figures: it ended with 1.");
  expect(readFileSync(join(folder, "bench-decode.svg"), "utf8")).toMatch(/^<svg[\s\S]+lambda/);
  expect(JSON.parse(readFileSync(join(folder, "bench.json"), "utf8")).outcomes).toEqual(outcomes);
});

test("a benchmark that there is not is named, with those that there are, all of which can be run", async () => {
  const [code, err] = await new Promise<[unknown, string]>((resolve) => {
    execFile(process.execPath, [SCRIPT, "--only", "decode,speed"], (error, _, err) => resolve([error?.code, err]));
  });
  expect([code, err]).toEqual([1, expect.stringMatching(/^bench: there is no benchmark 'speed'; there are decode, /)]);
  const listed = err.trim().split("there are ")[1]?.split(", ") ?? [];
  expect(listed.length).toBeGreaterThan(10);
  expect(listed.filter((name) => !existsSync(benchmarkFile(name)))).toEqual([]);
});

test("an interrupted run ends its benchmark and exits with 130", async () => {
  const out = temporaryFolder();
  const run = spawn(process.execPath, [SCRIPT, "--only", "endurance", "--out", out], { stdio: "pipe" });
  await new Promise((resolve) => run.stderr.once("data", resolve));
  run.kill("SIGINT");
  expect(await new Promise((resolve) => run.once("close", resolve))).toBe(130);
  expect(existsSync(join(out, "bench.md"))).toBe(false);
});
