import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { benchFolder } from "./bench-model.js";
import { explainGaps, type Gaps, type Outlier } from "./outliers.js";
import { type Figure, median, percentile } from "./report.js";
import { ask, spawnServer } from "./server-process.js";
import type { StreamRequest } from "./stream-reader.js";
import { stolenTime } from "./thread-times.js";
import { now, type Stage, type Timeline } from "./timeline.js";

/** Largest p99 of the gaps, in p50s. */
const GOAL = 2;

export interface GapsCase {
  readonly name: string;
  /** Of the server. */
  readonly flags: readonly string[];
  readonly body: Readonly<Record<string, unknown>>;
  readonly tokens: number;
  /** Tokens that the cache grows for. */
  readonly growth?: readonly number[];
}

/** Streams to the client, `stream-reader.js`, and says how long the gaps are and why some are long. */
export async function measureGaps(
  client: ChildProcess,
  { name, flags, body, tokens, growth = [] }: GapsCase,
): Promise<{ readonly figures: readonly Figure[]; readonly notes: readonly string[] }> {
  mkdirSync(benchFolder("timelines"), { recursive: true });
  const folder = mkdtempSync(benchFolder(join("timelines", "of-")));
  const node = ["--import", new URL("./timeline.js", import.meta.url).href];
  const { child: server, url } = spawnServer(flags, { node, env: { LAMBDATAP_TIMELINE: folder } });
  const stolen: number[] = [];
  const before = stolenTime();
  let counted = before;
  const watching = setInterval(() => {
    const found = stolenTime();
    if (found > counted) stolen.push(now());
    counted = found;
  }, 5);
  try {
    const ofTokens = (max_tokens: number) => ({ ...body, max_tokens, return_token_ids: true });
    await ask<Stage>(client, { url: await url, body: ofTokens(Math.ceil(tokens / 5)) } satisfies StreamRequest);
    const arrivals = await ask<Stage>(client, { url: await url, body: ofTokens(tokens) } satisfies StreamRequest);
    server.kill();
    await once(server, "exit"); // it leaves its timelines
    const read = (file: string): Timeline => JSON.parse(readFileSync(join(folder, file), "utf8"));
    const timelines = { http: read("http.json"), engine: read("engine.json") };
    return {
      figures: toFigures(name, explainGaps(arrivals, tokens, { ...timelines, growth, stolen })),
      notes: [`${name}: during its streams the host took ${counted - before} ms of this machine's processors`],
    };
  } finally {
    clearInterval(watching);
    server.kill();
    rmSync(folder, { recursive: true });
  }
}

function toFigures(name: string, { gaps, p50, outliers }: Gaps): Figure[] {
  const [p95, p99] = [percentile(gaps, 0.95), percentile(gaps, 0.99)];
  const [shown95, shown50, longest] = [p95, p50, Math.max(...gaps)].map((ms) => ms.toFixed(2));
  const contended = outliers.filter(({ reason }) => /processor/.test(reason)).map(({ gap }) => gap);
  const rest = percentile(
    gaps.filter((gap) => !contended.includes(gap)),
    0.99,
  );
  return [
    {
      name: `${name}: gap between tokens, p99`,
      value: p99,
      unit: "ms",
      beside: `p50 ${shown50}, p95 ${shown95}, largest ${longest} ms; p99 is ${(p99 / p50).toFixed(2)} x p50, goal ${GOAL}`,
      met: p99 <= GOAL * p50,
    },
    {
      name: `${name}: p99 of those in which nothing waited for a processor`,
      value: rest,
      unit: "ms",
      beside: `${(rest / p50).toFixed(2)} x p50`,
    },
    { name: `${name}: gaps above 2 x p50`, value: outliers.length, unit: `of ${gaps.length}` },
    ...[...new Set(outliers.map(causeOf))].map((cause): Figure => {
      const of = outliers.filter((each) => causeOf(each) === cause);
      return { name: `${name}:   ${cause}`, value: of.length, unit: "gaps", beside: lengths(of) };
    }),
  ];
}

function causeOf({ place, reason }: Outlier): string {
  return `${place}: ${reason}`;
}

function lengths(outliers: readonly Outlier[]): string {
  const gaps = outliers.map(({ gap }) => gap);
  const joined = outliers.filter((each) => each.joined).length;
  return `median ${median(gaps).toFixed(1)}, largest ${Math.max(...gaps).toFixed(1)} ms; ${joined} with the next token in the same read`;
}
