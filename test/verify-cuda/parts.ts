import { errorLine } from "./error-line.js";
import type { Findings } from "./findings.js";

/** A piece of work of which others do not depend. */
export interface Part {
  readonly name: string;
  run(): void | Promise<void>;
}

/**
 * Runs parts one after the other. One that fails does not keep the others from running, and those that would begin when the
 * time is up are not run: both are failures of the section.
 */
export async function runParts(
  { expired }: { expired(): boolean },
  findings: Findings,
  parts: readonly Part[],
): Promise<void> {
  for (const [i, { name, run }] of parts.entries()) {
    if (expired()) {
      const others = parts.length - i - 1;
      findings.failed(`${name}${others > 0 ? ` and ${others} more` : ""}: not run, the time was up`);
      return;
    }
    try {
      await run();
    } catch (error) {
      findings.failed(`${name}: ${errorLine(error)}`);
    }
  }
}
