import { percentile } from "./report.js";
import type { Stage, Timeline } from "./timeline.js";

/** Where a late token lost its time: computing it, on its way to the socket, or on its way out of it. */
const PLACES = ["engine", "HTTP thread", "client"] as const;
export type Place = (typeof PLACES)[number];

/** Why it did. What none of the others explains is "unexplained". */
export type Reason =
  | "the cache grew"
  | "garbage was collected"
  | "its thread waited for a processor"
  | "a thread it computes with waited for a processor"
  | "the host took a processor away"
  | "unexplained";

export interface Outlier {
  readonly place: Place;
  readonly reason: Reason;
  /** In ms. */
  readonly gap: number;
  /** The next token came in the same read. */
  readonly joined: boolean;
}

export interface Gaps {
  /** Between the arrivals of tokens that follow each other, in ms. */
  readonly gaps: readonly number[];
  readonly p50: number;
  /** Those above twice p50. */
  readonly outliers: readonly Outlier[];
}

/** What is known of a stream beside its arrivals. */
export interface Circumstances {
  readonly http: Timeline;
  readonly engine: Timeline;
  /** Numbers of the tokens that the cache grew for. */
  readonly growth: readonly number[];
  /** Times at which the system had counted more time as stolen by the host. */
  readonly stolen: readonly number[];
}

/** How late stolen time is seen: the sampling interval, and the step of 10 ms in which it is counted. */
const STOLEN_SEEN_MS = 15;

interface Passing {
  readonly at: number;
  readonly waited: number;
  readonly othersWaited: number;
}

/** The gaps of the last stream that passed, of `tokens` tokens. A cause is one that explains half of the delay or more. */
export function explainGaps(arrivals: Stage, tokens: number, { http, engine, growth, stolen }: Circumstances): Gaps {
  // Behind the tokens come the end of the choice, and [DONE] with the end of the response.
  const posts = passings(engine.posts, tokens, tokens);
  const writes = passings(http.writes, tokens + 1, tokens);
  const reads = passings(arrivals, tokens + 2, tokens);
  const gaps = reads.slice(1).map(({ at }, i) => at - (reads[i]?.at ?? at));
  const p50 = percentile(gaps, 0.5);

  const explain = (token: number): Pick<Outlier, "place" | "reason"> => {
    const [post, write, read] = [posts, writes, reads].map((stage) => pairOf(stage, token));
    if (!post || !write || !read) throw new RangeError(`nothing is known of token ${token}`);
    const late = {
      engine: post.now.at - post.before.at - p50,
      "HTTP thread": write.now.at - post.now.at - (write.before.at - post.before.at),
      client: read.now.at - write.now.at - (read.before.at - write.before.at),
    };
    const place = PLACES.reduce((most, each) => (late[each] > late[most] ? each : most));
    const { now, before } = { engine: post, "HTTP thread": write, client: read }[place];
    const begin = { engine: post.before.at, "HTTP thread": post.now.at, client: write.now.at }[place];
    const garbage = { engine: engine.garbage, "HTTP thread": http.garbage, client: [] }[place];
    const half = late[place] / 2;
    const known: readonly (readonly [Reason, boolean])[] = [
      ["the cache grew", place === "engine" && growth.includes(token)],
      ["garbage was collected", collected(garbage, begin, now.at) >= half],
      ["its thread waited for a processor", now.waited - before.waited >= half],
      ["a thread it computes with waited for a processor", now.othersWaited - before.othersWaited >= half],
      ["the host took a processor away", stolen.some((at) => at > begin && at < now.at + STOLEN_SEEN_MS)],
    ];
    return { place, reason: known.find(([, holds]) => holds)?.[0] ?? "unexplained" };
  };

  const outliers = gaps.flatMap((gap, i): Outlier[] =>
    gap > 2 * p50 ? [{ ...explain(i + 1), gap, joined: gaps[i + 1] === 0 }] : [],
  );
  return { gaps, p50, outliers };
}

const pairOf = (stage: readonly Passing[], token: number) => {
  const [before, now] = [stage[token - 1], stage[token]];
  return before && now && { before, now };
};

/** When each of the first `tokens` of a stage's last `events` events passed. */
function passings({ at, events, waited, othersWaited }: Stage, count: number, tokens: number): Passing[] {
  const first = (events.at(-1) ?? 0) - count;
  const passed: Passing[] = [];
  for (const [i, time] of at.entries()) {
    while (passed.length < tokens && (events[i] ?? 0) > first + passed.length)
      passed.push({ at: time, waited: waited[i] ?? 0, othersWaited: othersWaited[i] ?? 0 });
  }
  if (passed.length < tokens) throw new Error(`${passed.length} events passed, of ${tokens}`);
  return passed;
}

/** Milliseconds of garbage collection from `start` to `end`. */
function collected(garbage: Timeline["garbage"], start: number, end: number): number {
  return garbage.reduce((sum, [at, ms]) => sum + Math.max(0, Math.min(end, at + ms) - Math.max(start, at)), 0);
}
