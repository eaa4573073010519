import { join } from "node:path";
import { showProgress } from "../progress.js";
import { Journal } from "../report/journal.js";
import { terminalTable, writeReport } from "../report/report.js";
import { countFailures } from "../target/failure.js";
import { openTarget, type Target } from "../target/target.js";
import { AUTHORS_FILLER, readFiller } from "./filler.js";
import { MODE_TITLES, type Mode, truncate } from "./modes.js";
import { modesFor, PASSKEY_HELP, type PasskeyOptions, readOptions } from "./options.js";
import { passkeyReport } from "./passkey-report.js";
import { runTrials } from "./run-trials.js";
import { countPromptTokens, fillersWithin } from "./token-counts.js";
import { keyRange, planTrials, type Trial } from "./trials.js";
import { type KeySettings, namedSettings, Outcome } from "./try-key.js";

/**
 * Passkey retrieval as LM-Infinite's authors run it: numbers hidden in long prompts, and how often a server finds them, by
 * length, depth and distance, in each way of attending.
 * `npm run passkey -- --target http://127.0.0.1:8080 --lengths 1,2,4 --trials 10 --out reports/passkey`
 * The report is of all that its folder holds: run again, with more trials, lengths or modes if you like, it goes on there.
 */
export async function passkey(args: readonly string[], signal: AbortSignal): Promise<number> {
  const options = readOptions(args);
  if (options === null) {
    process.stdout.write(PASSKEY_HELP);
    return 0;
  }
  const target = await openTarget({ url: options.target, model: options.model, timeoutMs: options.timeoutMs }, signal);
  const modes = modesFor(options.modes, target.lambdatap !== null);
  const settings = await settingsOf(target, options, signal);
  // All refuse what cannot be, before anything is run.
  fillersWithin(Math.floor((options.lengths[0] ?? 0) * settings.window), settings.tokens);
  if (modes.includes("retrieve"))
    checkArchive(target, (options.lengths.at(-1) ?? 0) * settings.window + settings.answer);
  if (modes.includes("truncation")) truncate([], settings);

  const journal = Journal.open(join(options.out, "passkey.jsonl"), runOf(target, options, settings), Outcome);
  const known = new Set(journal.entries.map((outcome) => nameOf(outcome, outcome.mode)));
  const trials = planTrials(options);
  const missing = () => trials.flatMap((trial) => modes.filter((mode) => !known.has(nameOf(trial, mode)))).length;

  using progress = showProgress(trials.length * modes.length, trials.length * modes.length - missing());
  const isKnown = (trial: Trial, mode: Mode) => known.has(nameOf(trial, mode));
  const note = (outcome: Outcome) => {
    journal.add(outcome);
    known.add(nameOf(outcome, outcome.mode));
    progress.advance(`${MODE_TITLES[outcome.mode]}, ${outcome.length}x`);
  };
  const { connections } = options;
  const failures = await runTrials({ target, settings, modes, trials, connections, isKnown, note }, signal);
  progress[Symbol.dispose]();

  const findings = { target, options, settings, outcomes: journal.entries, failures, missing: missing() };
  const report = passkeyReport(findings);
  const paths = await writeReport(options.out, report);
  process.stdout.write(`${report.tables.map(terminalTable).join("\n\n")}\n\n${paths.join("\n")}\n`);
  for (const { kind, count, example } of countFailures(failures).kinds)
    process.stderr.write(`passkey: ${count} x ${kind}: ${example}\n`);
  return failures.length > 0 ? 1 : 0;
}

async function settingsOf(target: Target, options: PasskeyOptions, signal: AbortSignal): Promise<KeySettings> {
  const { question, retrieval, digits } = options;
  const { lambdatap } = target;
  if (lambdatap !== null && options.window !== null && options.window > lambdatap.window)
    throw new Error(`--window is at most the server's: ${lambdatap.window}`);
  const window = options.window ?? lambdatap?.window ?? null;
  if (window === null)
    throw new Error(
      "--window <tokens> is needed: this target is no lambdatap server, and does not say what length it has learned",
    );
  if (lambdatap?.has_tokenizer === false) throw new Error(`${target.model} has no tokenizer, and the task is a text`);
  const [, longestKey] = keyRange(digits);
  const filler = options.filler === null ? AUTHORS_FILLER : readFiller(options.filler);
  const tokens = await countPromptTokens(target, longestKey, question, filler, signal);
  const asksWindow = lambdatap !== null && window < lambdatap.window;
  const sinks = lambdatap?.sinks ?? 0;
  return { window, asksWindow, sinks, answer: tokens.answer, question, filler, retrieval, tokens };
}

/** @throws Error where a text of so many tokens cannot be archived. */
function checkArchive({ model, lambdatap }: Target, tokens: number): void {
  const room = lambdatap?.archive_tokens;
  if (room === null) throw new Error(`${model} cannot retrieve: say --modes lambda,full,truncation`);
  if (room !== undefined && tokens > room)
    throw new Error(
      `the server keeps ${room} tokens for mode retrieve, not ${tokens}: start it with a larger --archive-mb, or say shorter --lengths`,
    );
}

function nameOf({ length, depth, repetition }: Pick<Trial, "length" | "depth" | "repetition">, mode: Mode): string {
  return [mode, length, depth, repetition].join(" ");
}

/** What must be the same for outcomes to stand in one report. */
function runOf(
  { url, model, lambdatap }: Target,
  { depths, digits, seed }: PasskeyOptions,
  settings: KeySettings,
): object {
  return {
    ...(lambdatap === null ? { url } : {}),
    model,
    architecture: lambdatap?.architecture,
    precision: lambdatap?.precision,
    depths,
    digits,
    seed,
    settings: namedSettings(settings),
  };
}
