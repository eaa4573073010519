import { median, quantileSorted } from "simple-statistics";
import { countFailures, type FailureCounts } from "../target/failure.js";
import type { Trial } from "./run-scenarios.js";
import type { ScenarioName } from "./scenario-names.js";
import type { ServerMemory } from "./server-memory.js";

export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** A scenario on a server, all its rounds together. Times in ms. */
export interface Figures {
  readonly scenario: ScenarioName;
  readonly target: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly answers: number;
  readonly answersPerSecond: number;
  /** Generated; those of answers that the end cut off are counted where they were streamed. */
  readonly tokensPerSecond: number;
  /** Of a prompt; null where the server does not say. */
  readonly promptTokens: number | null;
  /** From the request to the last byte of its answer. */
  readonly latency: Percentiles | null;
  /** From the request to the first piece of text of a streamed answer. */
  readonly firstToken: Percentiles | null;
  /** Between pieces of text of a streamed answer. */
  readonly betweenTokens: Percentiles | null;
  /** 429 in the overload scenario. */
  readonly refusals: number;
  readonly failures: FailureCounts;
  readonly memory: ServerMemory | null;
  /** Why rounds ended, where it was not for time. */
  readonly endedBy: readonly Trial["ended"][];
}

/** Trials of one scenario on one server. */
export function figuresOf(trials: readonly [Trial, ...Trial[]]): Figures {
  const [{ scenario, target }] = trials;
  const answers = trials.flatMap((trial) => trial.answers);
  const seconds = sum(trials.map((trial) => trial.seconds));
  const tokens = sum(answers.map((answer) => answer.tokens)) + sum(trials.map(({ cutPieces }) => cutPieces));
  const prompts = answers.flatMap(({ promptTokens }) => promptTokens ?? []);
  const samples = samplesOf(trials);
  return {
    scenario,
    target,
    rounds: trials.length,
    seconds,
    answers: answers.length,
    answersPerSecond: answers.length / seconds,
    tokensPerSecond: tokens / seconds,
    promptTokens: prompts.length === 0 ? null : median(prompts),
    latency: percentiles(samples.latency),
    firstToken: percentiles(samples.firstToken),
    betweenTokens: percentiles(samples.betweenTokens),
    refusals: sum(trials.map(({ refusals }) => refusals)),
    failures: countFailures(trials.flatMap(({ failures }) => failures)),
    memory: memoryOf(trials.flatMap(({ memory }) => memory ?? [])),
    endedBy: [...new Set(trials.map(({ ended }) => ended))].filter((ended) => ended !== "time"),
  };
}

/** Every time that was measured, ms. */
export function samplesOf(trials: readonly Trial[]) {
  const answers = trials.flatMap((trial) => trial.answers);
  const timed = answers.map(({ arrivals }) => arrivals);
  return {
    latency: sorted(answers.map(({ latencyMs }) => latencyMs)),
    firstToken: sorted(timed.flatMap(([first]) => first ?? [])),
    betweenTokens: sorted(timed.flatMap((times) => times.slice(1).map((at, i) => at - (times[i] ?? at)))),
  };
}

const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function percentiles(samples: number[]): Percentiles | null {
  if (samples.length === 0) return null;
  const at = (share: number) => quantileSorted(samples, share);
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

function memoryOf(memories: readonly ServerMemory[]): ServerMemory | null {
  const [first, last] = [memories[0], memories.at(-1)];
  if (first === undefined || last === undefined) return null;
  return { start: first.start, peak: Math.max(...memories.map(({ peak }) => peak)), end: last.end };
}
