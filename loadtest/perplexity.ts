import { join } from "node:path";
import { Interrupted, runCommand } from "./command.js";
import { fingerprint, readDocuments } from "./documents.js";
import { lambdatapOf } from "./perplexity/lambdatap.js";
import { PERPLEXITY_HELP, type PerplexityOptions, readOptions } from "./perplexity/options.js";
import { perplexityReport } from "./perplexity/perplexity-report.js";
import { planOf } from "./perplexity/plan.js";
import { Result } from "./perplexity/result.js";
import { runPlan, workOf } from "./perplexity/run-plan.js";
import { encodeDocuments } from "./perplexity/sequence.js";
import { showProgress } from "./progress.js";
import { Journal } from "./report/journal.js";
import { terminalTable, writeReport } from "./report/report.js";
import { openTarget } from "./target/target.js";

/** `npm run perplexity -- --text book.txt`; flags: --help. The exit code is 1 where a request failed. */
await runCommand("perplexity", async (signal) => {
  const options = readOptions(process.argv.slice(2));
  if (options !== null) return perplexity(options, signal);
  process.stdout.write(PERPLEXITY_HELP);
  return 0;
});

async function perplexity(options: PerplexityOptions, signal: AbortSignal): Promise<number> {
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
