import { median, percentile } from "./report.js";

/** Requests that are sent to a server or an engine, and when their tokens came. */
export interface Plan {
  /** Bodies of completion requests, each sent so many ms after the first. */
  readonly requests: readonly { readonly body: Readonly<Record<string, unknown>>; readonly at?: number }[];
  /** All are given up once this request has so many tokens; left out: all are read to their ends. */
  readonly until?: { readonly request: number; readonly tokens: number };
}

/** For each request of a plan: when it was sent and when each of its tokens came, ms. */
export interface Arrivals {
  readonly sent: number;
  readonly tokens: readonly number[];
}

/** What takes a plan: a process of its own, a server behind it or not. */
export interface Player extends AsyncDisposable {
  /** Of the process that computes. */
  readonly pid: number;
  play(plan: Plan): Promise<readonly Arrivals[]>;
}

/** Tokens per second of all streams together while every one of them ran. */
export function rateOfAll(streams: readonly Arrivals[]): number {
  const from = Math.max(...streams.map(({ tokens }) => tokens[0] ?? Number.NaN));
  const to = Math.min(...streams.map(({ tokens }) => tokens.at(-1) ?? Number.NaN));
  const between = streams.flatMap(({ tokens }) => tokens.filter((at) => at > from && at <= to));
  if (!(to > from)) throw new RangeError("the streams were never all running at once: let them be longer");
  return (1000 * between.length) / (to - from);
}

/** Gaps between tokens of a stream, ms. */
export interface Gaps {
  readonly p50: number;
  readonly p99: number;
}

/** Those that began at `from` or later and ended before `to`. */
export function gapsWithin(streams: readonly Arrivals[], from: number, to: number): Gaps {
  const gaps = streams.flatMap(({ tokens }) =>
    tokens.flatMap((at, i) => {
      const before = tokens[i - 1];
      return before === undefined || before < from || at >= to ? [] : [at - before];
    }),
  );
  return { p50: median(gaps), p99: percentile(gaps, 0.99) };
}
