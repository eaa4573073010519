import { TargetFailure } from "./target/failure.js";

/** A run that was interrupted from the keyboard or by its parent. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

const INTERRUPTED = 130;

/**
 * Runs a command of loadtest and sets the exit code: what it returns; 1 after an error, which is shown in a line;
 * 130 after SIGINT or SIGTERM. The first of these aborts the signal, so that the command can write down what it has;
 * the second ends the process.
 */
export async function runCommand(name: string, work: (signal: AbortSignal) => Promise<number>): Promise<void> {
  const interruption = new AbortController();
  const interrupt = () => {
    if (interruption.signal.aborted) process.exit(INTERRUPTED);
    interruption.abort(new Interrupted("interrupted"));
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  try {
    process.exitCode = await work(interruption.signal);
  } catch (error) {
    process.exitCode = 1;
    process.stderr.write(`${name}: ${lineOf(error).replaceAll(/\s*\n\s*/g, " ")}\n`);
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    if (interruption.signal.aborted) process.exitCode = INTERRUPTED;
  }
}

/** What went wrong in a line: a server's failure with its kind, other errors with their cause where it adds something. */
function lineOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof TargetFailure) return `${error.message} (${error.kind})`;
  const cause = error.cause instanceof Error ? error.cause.message : "";
  return error.message.includes(cause) ? error.message : `${error.message} (${cause})`;
}
