import type { Progress } from "../progress.js";
import type { Journal } from "../report/journal.js";
import { TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";
import { type Fresh, freshPrompt, type Pass } from "./modes.js";
import type { Plan } from "./plan.js";
import { type Attention, nextNll, promptNll } from "./prompt-nll.js";
import { passResult, type Result, sampledNll } from "./result.js";

/** Samples that an interruption costs at most. */
const SAVED_TOGETHER = 100;

/** What measuring needs. */
export interface Run {
  readonly target: Target;
  readonly plan: Plan;
  /** Takes results as they come; what it has already is not measured again. */
  readonly journal: Journal<Result>;
  /** Requests at once where positions are sampled. */
  readonly connections: number;
  /** Counts tokens that the model reads. */
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/**
 * Measures what the journal does not have yet. A failure ends its part; where the server is gone or silent, the others too.
 * An interruption ends all of it.
 * @returns failures
 */
export async function runPlan(run: Run): Promise<TargetFailure[]> {
  const failures: TargetFailure[] = [];
  const parts = [
    ...[...run.plan.passes].map(
      ([pass, length]) =>
        () =>
          runPass(run, pass, length),
    ),
    ...run.plan.fresh.map((part) => () => runSamples(run, part)),
  ];
  for (const part of parts) {
    try {
      await part();
    } catch (error) {
      if (run.signal.aborted) return failures;
      if (!(error instanceof TargetFailure)) throw error;
      failures.push(error);
      if (error.kind !== "refused" && error.kind !== "nonsense") return failures;
    }
  }
  return failures;
}

/** Tokens that the model has to read for a plan, and how many of them it has read. */
export function workOf(plan: Plan, results: readonly Result[]): { total: number; done: number } {
  let [total, done] = [0, 0];
  for (const [pass, length] of plan.passes) {
    total += length;
    if (isPassDone(plan, results, pass, length)) done += length;
  }
  for (const part of plan.fresh)
    for (const [bucket, { length }] of plan.positions.entries()) {
      total += length * plan.window.window;
      done += Math.min(length, sampledNll(results, part, bucket).length) * plan.window.window;
    }
  return { total, done };
}

const hasPass = (results: readonly Result[], part: Pass, bucket: number): boolean =>
  results.some((result) => result.part === part && result.bucket === bucket);

const isPassDone = (plan: Plan, results: readonly Result[], pass: Pass, length: number): boolean =>
  plan.buckets.every(({ from }, i) => from >= length || hasPass(results, pass, i));

/** Reads the sequence once, from its start: a pass that was interrupted is read again for the buckets that it lacks. */
async function runPass({ target, plan, journal, progress, signal }: Run, part: Pass, length: number): Promise<void> {
  if (isPassDone(plan, journal.entries, part, length)) return;
  let bucket = 0;
  let position = 1;
  let nll: number[] = [];
  const pieces = promptNll(target, plan.ids.slice(0, length), attentionOf(plan, part), signal);
  for await (const piece of pieces) {
    for (const value of piece) {
      nll.push(value);
      position += 1;
      if (position < Math.min(plan.buckets[bucket]?.to ?? length, length)) continue;
      if (!hasPass(journal.entries, part, bucket)) journal.add(passResult(part, bucket, nll));
      bucket += 1;
      nll = [];
    }
    progress.advance(`${part}, token ${position}`, piece.length);
  }
}

async function runSamples(run: Run, part: Fresh): Promise<void> {
  for (const [bucket, positions] of run.plan.positions.entries()) {
    let first = sampledNll(run.journal.entries, part, bucket).length;
    for (; first < positions.length; first += SAVED_TOGETHER) {
      const nll = await sample(run, part, positions.slice(first, first + SAVED_TOGETHER));
      run.journal.add({ part, bucket, first, nll });
    }
  }
}

/** NLL at positions, each from a prompt of its own; the first failure stops the others. */
async function sample(
  { target, plan, connections, progress, signal }: Run,
  part: Fresh,
  positions: readonly number[],
): Promise<number[]> {
  const nll: number[] = new Array(positions.length);
  const stop = new AbortController();
  const either = AbortSignal.any([stop.signal, signal]);
  const queue = positions.entries();
  const work = async (): Promise<void> => {
    for (const [i, position] of queue) {
      if (either.aborted) return;
      const prompt = freshPrompt(part, plan.ids, position, plan.window);
      nll[i] = await nextNll(target, prompt, plan.ids[position] ?? 0, attentionOf(plan, "lambda"), either);
      progress.advance(`${part}, token ${position}`, prompt.length);
    }
  };
  await Promise.all(
    Array.from({ length: connections }, () =>
      work().catch((error: unknown) => {
        stop.abort(error);
        throw error;
      }),
    ),
  );
  signal.throwIfAborted();
  return nll;
}

const attentionOf = ({ asksWindow, window }: Plan, mode: Pass): Attention =>
  asksWindow && mode === "lambda" ? { mode, window: window.window } : { mode };
