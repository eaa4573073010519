import { setMaxListeners } from "node:events";
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";
import { TargetFailure } from "../target/failure.js";
import type { Answer, Connection, Outcomes } from "./outcomes.js";

/** What a scenario gave. */
export interface Measurement {
  /** How long it lasted; answers that came within are counted. */
  readonly seconds: number;
  readonly answers: readonly Answer[];
  readonly failures: readonly TargetFailure[];
  /** Refusals that belong to the scenario. */
  readonly refusals: number;
  /** Pieces of answers that the end cut off. */
  readonly cutPieces: number;
  /**
   * time: as long as asked for, or until each connection had an answer;
   * limit: a connection had none long after;
   * failures: there was nothing else any more;
   * interrupted: by the user.
   */
  readonly ended: "time" | "limit" | "failures" | "interrupted";
}

export interface MeasureOptions {
  readonly seconds: number;
  /** How much longer it may take until each connection has an answer, ms. */
  readonly graceMs: number;
  /** Refusals that are what the scenario is for: no failures. */
  readonly isExpected: (failure: TargetFailure) => boolean;
}

/** Before a connection is opened again, ms. */
const RECONNECT_MS = 250;
/** Failures in a row after which a connection is in vain; a silence alone is enough. Where all are, the scenario ends. */
const PATIENCE = 3;

/** Lets connections ask at the same time. */
export async function measure(
  connections: readonly Connection[],
  { seconds, graceMs, isExpected }: MeasureOptions,
  signal: AbortSignal,
): Promise<Measurement> {
  const answers: Answer[] = [];
  const failures: TargetFailure[] = [];
  let [refusals, cutPieces, lasted] = [0, 0, 0];
  let ended = "time" as Measurement["ended"];
  const heardOf = new Set<number>();
  /** Failures in a row, of each connection. */
  const inVain = connections.map(() => 0);
  const over = new AbortController();
  setMaxListeners(0, over.signal); // one for each connection
  const began = performance.now();
  const end = (why: typeof ended): void => {
    if (over.signal.aborted) return;
    ended = why;
    lasted = (performance.now() - began) / 1000;
    over.abort();
  };
  const endWhereDue = (): void => {
    if (inVain.every((failed) => failed >= PATIENCE)) end("failures");
    const isLate = performance.now() - began >= seconds * 1000;
    if (isLate && heardOf.size === connections.length) end("time");
  };
  const outcomesOf = (connection: number): Outcomes => ({
    answered(answer) {
      if (over.signal.aborted) return;
      answers.push(answer);
      heardOf.add(connection);
      inVain[connection] = 0;
      endWhereDue();
    },
    failed(failure) {
      if (over.signal.aborted) return false;
      heardOf.add(connection);
      const goesOn = isExpected(failure);
      if (goesOn) refusals += 1;
      else failures.push(failure);
      inVain[connection] = goesOn ? 0 : (inVain[connection] ?? 0) + (failure.kind === "timed out" ? PATIENCE : 1);
      endWhereDue();
      return goesOn;
    },
    cut(pieces) {
      cutPieces += pieces;
    },
  });
  const interrupt = () => end("interrupted");
  signal.addEventListener("abort", interrupt, { once: true });
  if (signal.aborted) interrupt();
  const timers = [
    setTimeout(endWhereDue, seconds * 1000 + 1),
    setTimeout(() => end("limit"), seconds * 1000 + graceMs),
  ];
  const open: Promise<void>[] = [];
  for (const [i, connection] of connections.entries()) {
    open.push(keepConnected(connection, outcomesOf(i), over.signal));
    await nextTurn(); // opening one takes a while: what the others hear is not to wait for all of them
  }
  await Promise.all(open);
  for (const timer of timers) clearTimeout(timer);
  signal.removeEventListener("abort", interrupt);
  const unanswered = ended === "limit" ? connections.length - heardOf.size : 0;
  const late = () => new TargetFailure("timed out", `a connection had no whole answer in ${lasted.toFixed(0)} s`);
  return {
    seconds: lasted,
    answers,
    failures: [...failures, ...Array.from({ length: unanswered }, late)],
    refusals,
    cutPieces,
    ended,
  };
}

/** Opens a connection again when it was lost: after a pause where that was a failure. */
async function keepConnected(connection: Connection, outcomes: Outcomes, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    let hasFailed = false;
    const failed = (failure: TargetFailure): boolean => {
      const goesOn = outcomes.failed(failure);
      hasFailed ||= !goesOn;
      return goesOn;
    };
    await connection({ ...outcomes, failed }, signal);
    if (hasFailed) await pause(RECONNECT_MS, undefined, { signal }).catch(() => {});
  }
}
