import { TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";
import type { Mode } from "./modes.js";
import type { Trial } from "./trials.js";
import { hideKey, type KeySettings, type Outcome, tryKey } from "./try-key.js";

export interface Run {
  readonly target: Target;
  readonly settings: KeySettings;
  readonly modes: readonly Mode[];
  readonly trials: readonly Trial[];
  readonly connections: number;
  /** What is known already is not asked again. */
  isKnown(trial: Trial, mode: Mode): boolean;
  /** Hears of an outcome as soon as it is there. */
  note(outcome: Outcome): void;
}

/** So many failures in a row, other than refusals, and the server is taken to be gone. */
const GIVE_UP = 5;

/**
 * Runs trials, each in all modes; one after another on every connection.
 * Ends early where the signal aborts or where the server is gone; failures are returned, not thrown.
 */
export async function runTrials(run: Run, signal: AbortSignal): Promise<TargetFailure[]> {
  const failures: TargetFailure[] = [];
  let inARow = 0;
  let isBroken = false; // by an error that is not the server's: the other connections end, too
  const waiting = run.trials.values(); // shared: each connection takes the next
  const isOver = () => signal.aborted || isBroken || inARow >= GIVE_UP;
  const attempt = async <Value>(work: () => Promise<Value>): Promise<Value | null> => {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted) return null;
      isBroken = !(error instanceof TargetFailure);
      if (!(error instanceof TargetFailure)) throw error;
      failures.push(error);
      inARow = error.kind === "refused" ? 0 : inARow + 1;
      return null;
    }
  };
  const connection = async (): Promise<void> => {
    for (const trial of waiting) {
      const modes = run.modes.filter((mode) => !run.isKnown(trial, mode));
      if (isOver()) return;
      if (modes.length === 0) continue;
      const hidden = await attempt(() => hideKey(run.target, trial, run.settings, signal));
      if (hidden === null) continue;
      for (const mode of modes) {
        if (isOver()) return;
        const outcome = await attempt(() => tryKey(run.target, hidden, mode, run.settings, signal));
        if (outcome === null) continue;
        inARow = 0; // here and not before: a server may count tokens and be unable to answer
        await attempt(async () => run.note(outcome));
      }
    }
  };
  await Promise.all(Array.from({ length: run.connections }, connection));
  return failures;
}
