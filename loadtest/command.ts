import { TargetFailure } from "./target/failure.js";

/** A run that was interrupted from the keyboard or by its parent. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

const INTERRUPTED = 130;

/** A command of loadtest; resolves to its exit code. When the signal aborts it writes down what it has. */
export type Command = (args: readonly string[], signal: AbortSignal) => Promise<number>;

/**
 * Runs a command in the process that it was started as, and sets the exit code. The first SIGINT or SIGTERM aborts the
 * command's signal; the second ends the process.
 */
export async function runCommand(name: string, command: Command): Promise<void> {
  const interruption = new AbortController();
  const interrupt = () => {
    if (interruption.signal.aborted) process.exit(INTERRUPTED);
    interruption.abort(new Interrupted("interrupted"));
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  process.exitCode = await exitCodeOf(name, command, process.argv.slice(2), interruption.signal);
  process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
}

/** What the command returns; 1 after an error, which is shown in a line; 130 after an interruption. */
export async function exitCodeOf(
  name: string,
  command: Command,
  args: readonly string[],
  signal: AbortSignal,
): Promise<number> {
  try {
    const code = await command(args, signal);
    return signal.aborted ? INTERRUPTED : code;
  } catch (error) {
    process.stderr.write(`${name}: ${lineOf(error).replaceAll(/\s*\n\s*/g, " ")}\n`);
    return signal.aborted ? INTERRUPTED : 1;
  }
}

/** What went wrong in a line: a server's failure with its kind, other errors with their cause where it adds something. */
function lineOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof TargetFailure) return `${error.message} (${error.kind})`;
  const cause = error.cause instanceof Error ? error.cause.message : "";
  return error.message.includes(cause) ? error.message : `${error.message} (${cause})`;
}
