import { join } from "node:path";
import { Interrupted } from "../command.js";
import { fingerprint, readDocuments } from "../documents.js";
import { showProgress } from "../progress.js";
import { Journal } from "../report/journal.js";
import { terminalTable, writeReport } from "../report/report.js";
import { openTarget } from "../target/target.js";
import { lambdatapOf } from "./lambdatap.js";
import { PERPLEXITY_HELP, readOptions } from "./options.js";
import { perplexityReport } from "./perplexity-report.js";
import { planOf } from "./plan.js";
import { Result } from "./result.js";
import { runPlan, workOf } from "./run-plan.js";
import { encodeDocuments } from "./sequence.js";

/** `npm run perplexity -- --text book.txt`; flags: --help. The exit code is 1 where a request failed. */
export async function perplexity(args: readonly string[], signal: AbortSignal): Promise<number> {
  const options = readOptions(args);
  if (options === null) {
    process.stdout.write(PERPLEXITY_HELP);
    return 0;
  }
  const documents = readDocuments(options.texts);
  const target = await openTarget({ url: options.target, model: options.model, timeoutMs: options.timeoutMs }, signal);
  const { window, sinks, precision } = lambdatapOf(target, options.window);
  const sequence = await encodeDocuments(target, documents, options.tokens, signal);
  if (sequence.ids.length < 2) throw new Error("--text has fewer than 2 tokens");
  const { samples, seed, modes, fullTokens = 16 * window } = options;
  const settings = { modes, samples, seed, fullTokens };
  const plan = planOf(sequence.ids, { window, sinks }, options.window !== undefined, settings);
  const journal = Journal.open(
    join(options.out, "perplexity.jsonl"),
    {
      command: "perplexity",
      target: target.url,
      model: target.model,
      precision,
      window,
      sinks,
      text: fingerprint(documents),
      tokens: sequence.ids.length,
      seed,
      fullTokens,
    },
    Result,
  );
  const { total, done } = workOf(plan, journal.entries);
  const failures = await (async () => {
    using progress = showProgress(total, done);
    return runPlan({ target, plan, journal, connections: options.connections, progress, signal });
  })();
  if (signal.aborted && journal.entries.length === 0) throw new Interrupted("interrupted");
  const results = journal.entries;
  const report = perplexityReport({ target, sequence, plan, settings, results, failures, interrupted: signal.aborted });
  const text = options.json
    ? JSON.stringify(report.data)
    : report.tables.map((table) => `${terminalTable(table)}\n`).join("\n");
  process.stdout.write(`${text}\n`);
  const written = await writeReport(options.out, report);
  for (const { kind, message } of failures) process.stderr.write(`perplexity: ${message} (${kind})\n`);
  if (signal.aborted) process.stderr.write("perplexity: interrupted; the same command goes on where it stopped\n");
  process.stderr.write(`${written.join("\n")}\n`);
  return failures.length > 0 ? 1 : 0;
}
