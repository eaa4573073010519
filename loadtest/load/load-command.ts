import { Interrupted } from "../command.js";
import { showProgress } from "../progress.js";
import { terminalTable, writeReport } from "../report/report.js";
import { TargetFailure } from "../target/failure.js";
import { loadReport } from "./load-report.js";
import { type LoadTarget, openLoadTarget } from "./load-target.js";
import { LOAD_HELP, type LoadOptions, readOptions } from "./options.js";
import { runScenarios } from "./run-scenarios.js";
import { scenariosOf } from "./scenarios.js";

/** `npm run load -- --target http://127.0.0.1:8080`; flags: --help. The exit code is 1 where a request failed. */
export async function load(args: readonly string[], signal: AbortSignal): Promise<number> {
  const options = readOptions(args);
  if (options === null) {
    process.stdout.write(LOAD_HELP);
    return 0;
  }
  const loads = await openTargets(options, signal);
  const scenarios = scenariosOf(options);
  const steps = scenarios.length * options.rounds * loads.length;
  const trials = await (async () => {
    using progress = showProgress(steps);
    return runScenarios(scenarios, loads, options, progress, signal);
  })();
  if (signal.aborted && trials.trials.length === 0) throw new Interrupted("interrupted before anything was measured");
  const report = loadReport(options, scenarios, loads, trials, signal.aborted);
  const text = options.json
    ? JSON.stringify(report.data)
    : report.tables.map((table) => `${terminalTable(table)}\n`).join("\n");
  process.stdout.write(`${text}\n`);
  const written = await writeReport(options.out, report);
  if (signal.aborted) process.stderr.write("load: interrupted; what was measured until then is written\n");
  process.stderr.write(`${written.join("\n")}\n`);
  return report.failures > 0 || report.unanswered > 0 || trials.trials.length === 0 ? 1 : 0;
}

/** @throws TargetFailure, which is also said in JSON where that was asked for. */
async function openTargets({ targets, timeoutMs, json }: LoadOptions, signal: AbortSignal): Promise<LoadTarget[]> {
  const loads: LoadTarget[] = [];
  try {
    for (const [i, { url, model }] of targets.entries())
      loads.push(await openLoadTarget({ url, model, timeoutMs }, "AB"[i] ?? "A", signal));
    return loads;
  } catch (error) {
    if (json && error instanceof TargetFailure)
      process.stdout.write(
        `${JSON.stringify({ command: "load", failure: { kind: error.kind, message: error.message } })}\n`,
      );
    throw error;
  }
}
