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
    if (!(error instanceof Interrupted)) {
      const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
      process.stderr.write(`${name}: ${error instanceof Error ? error.message : error}${cause}\n`);
    }
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    if (interruption.signal.aborted) process.exitCode = INTERRUPTED;
  }
}
