import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { benchReport, type Outcome } from "./bench/bench-report.js";
import { benchmarkFile, runBenchmark } from "./bench/run-benchmark.js";
import { Interrupted, runCommand } from "./command.js";
import { terminalTable, writeReport } from "./report/report.js";

/**
 * All benchmarks, one after the other, in one report: `npm run bench -- --out reports/bench`. A machine that does nothing
 * else gives figures that mean something. `--only decode,prefill` runs some.
 */
const BENCHMARKS = [
  "decode",
  "prefill",
  "attention",
  "retrieval",
  "server-cost",
  "responsiveness",
  "startup",
  "taps",
  "endurance",
  "trace-endurance",
  "perplexity",
  "prefix",
  "accuracy",
  "sae-precision",
  "edits",
  "compile-memory",
  "model-memory",
  "peer",
];

await runCommand("bench", async (args, signal) => {
  const { values } = parseArgs({
    args: [...args],
    options: { out: { type: "string", default: "reports/bench" }, only: { type: "string" } },
  });
  const asked = [...new Set(values.only?.split(",") ?? BENCHMARKS)];
  const unknown = asked.find((name) => !BENCHMARKS.includes(name));
  if (unknown !== undefined) throw new Error(`there is no benchmark '${unknown}'; there are ${BENCHMARKS.join(", ")}`);
  const outcomes: Outcome[] = [];
  for (const [done, name] of asked.entries()) {
    process.stderr.write(`${done + 1} of ${asked.length}: ${name}\n`);
    const outcome = await measure(name, signal);
    if (outcome === null) break;
    outcomes.push(outcome);
    // After each, so that an interrupted run keeps what it measured.
    const report = benchReport(outcomes);
    const written = await writeReport(values.out, report);
    if (outcome.result !== null) process.stdout.write(`${terminalTable(report.tables.at(-1)!)}\n\n`);
    if (done + 1 === asked.length) process.stdout.write(`${written.join("\n")}\n`);
  }
  return outcomes.length === asked.length && outcomes.every(({ result }) => result !== null) ? 0 : 1;
});

/** null: interrupted. */
async function measure(name: string, signal: AbortSignal): Promise<Outcome | null> {
  const file = benchmarkFile(name);
  if (!existsSync(file)) return { name, result: null, failure: "it is not built; run npm run build" };
  try {
    return { name, result: await runBenchmark(file, signal) };
  } catch (error) {
    if (error instanceof Interrupted) return null;
    return { name, result: null, failure: error instanceof Error ? error.message : String(error) };
  }
}
