import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LocalEngineOptions } from "../../runtime/engine/options.js";
import { bareSteps } from "./bare-steps.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import type { EngineRun } from "./engine-alone.js";
import { argument, type Figure, median, report } from "./report.js";
import { ask, spawnServer } from "./server-process.js";
import { measureGaps } from "./stream-gaps.js";
import type { StreamRequest } from "./stream-reader.js";
import { processorTimeOf } from "./thread-times.js";
import type { Stage } from "./timeline.js";

/**
 * What HTTP costs beside the engine (Linux): the same request to an engine alone and to a server that streams it to a cheap
 * client, in turns, each in a process of its own; then the gaps between the tokens of a long stream, and why some are long.
 * `--rounds 0` leaves out the first, `--case <name>` all models but one.
 */
const ROUNDS = Number(argument("rounds") ?? 8);
const GOAL = { share: 0.95, microseconds: 100 };
const cacheDir = benchFolder("cache");
/** Slots of a cache at first, beside its sinks; then they double. */
const [FIRST_SLOTS, SINKS] = [256, 10];

interface Case {
  readonly name: string;
  readonly model: string;
  readonly precision: "f32" | "q8";
  readonly body: Readonly<Record<string, unknown>>;
  /** Tokens of a round. */
  readonly tokens: number;
  /** Tokens of the stream whose gaps are measured; left out: none is. */
  readonly stream?: number;
  /** Tokens that the cache grows for. */
  readonly growth?: readonly number[];
  readonly goals: { readonly share?: number; readonly microseconds?: number };
}

const embedded = { model: join("models", "default"), precision: "f32" } as const;
const story = { prompt: "Once upon a time", seed: 11, ignore_eos: true, stream: true };
const prompt = [1, 2, 3, 4];
const cases: Case[] = [
  {
    name: "embedded",
    ...embedded,
    body: story,
    tokens: 1500,
    stream: 6000,
    goals: { microseconds: GOAL.microseconds },
  },
  { name: "embedded, 3 SAEs", ...embedded, body: { ...story, features: {} }, tokens: 750, goals: {} },
  {
    name: "135M, 8 bit",
    model: randomLlama(SMOLLM2),
    precision: "q8",
    // Without a tokenizer ids are all that a chunk can say.
    body: { prompt, seed: 11, ignore_eos: true, stream: true, return_token_ids: true },
    tokens: 200,
    stream: 700,
    growth: [1, 2, 4, 8].map((times) => times * FIRST_SLOTS + SINKS + 1 - prompt.length),
    goals: { share: GOAL.share },
  },
];

const figures: Figure[] = [];
const notes: string[] = [];
const client = fork(here("stream-reader.js"), { execArgv: [] });
try {
  for (const each of cases) {
    if ((argument("case") ?? each.name) !== each.name) continue;
    if (ROUNDS > 0) await measureCost(each);
    if (each.stream !== undefined) {
      figures.push(await bareSteps(each.name, { ...each, cacheDir }, each.stream));
      const flags = flagsOf(each.model, each.precision);
      const found = await measureGaps(client, { ...each, flags, tokens: each.stream });
      figures.push(...found.figures);
      notes.push(...found.notes);
    }
  }
} finally {
  client.kill();
}
report("server cost: HTTP and SSE beside the engine alone", figures, notes);

interface Round {
  readonly alone: EngineRun;
  readonly served: Omit<EngineRun, "tokens">;
}

async function measureCost({ name, model, precision, body, tokens, goals }: Case): Promise<void> {
  const options = { model, precision, cacheDir, parallel: 1, queueLimit: 1, stallTimeoutMs: 60_000 };
  const engine = fork(here("engine-alone.js"), [JSON.stringify(options satisfies LocalEngineOptions)], {
    execArgv: [],
  });
  const { child: server, url } = spawnServer(flagsOf(model, precision));
  const rounds: Round[] = [];
  try {
    const [at] = await Promise.all([url, once(engine, "message")]);
    const request = { ...body, max_tokens: tokens };
    const alone = () => ask<EngineRun>(engine, request);
    const served = () => stream(server, at, request);
    await alone();
    await served();
    for (let i = 0; i < ROUNDS; i++) {
      if (i % 2 === 0) rounds.push({ alone: await alone(), served: await served() });
      else rounds.push({ served: await served(), alone: await alone() });
      progress(`${name}: round ${i + 1} of ${ROUNDS}`);
    }
  } finally {
    engine.kill();
    server.kill();
  }
  const perToken = (microseconds: number) => microseconds / tokens;
  const share = over(rounds, ({ alone, served }) => alone.ms / served.ms);
  const thread = over(rounds, ({ alone, served }) => perToken(served.cpu.main - alone.cpu.main));
  const all = over(rounds, ({ alone, served }) => perToken(served.cpu.all - alone.cpu.all));
  const own = over(rounds, ({ alone }) => perToken(alone.cpu.all));
  const rate = over(rounds, ({ alone }) => (1000 * (tokens - 1)) / alone.ms);
  figures.push(
    {
      name: `${name}: engine alone`,
      value: rate.median,
      unit: "tokens/s",
      beside: `${own.median.toFixed(0)} us of processor time per token (${own.spread})`,
    },
    {
      name: `${name}: as a stream`,
      value: share.median,
      unit: "x that rate",
      beside: `${share.spread}${goals.share === undefined ? "" : `; goal ${goals.share}`}`,
      ...(goals.share === undefined ? {} : { met: share.median >= goals.share }),
    },
    {
      name: `${name}: the HTTP thread, beyond the engine's use of it`,
      value: thread.median,
      unit: "us/token",
      beside: `${thread.spread}${goals.microseconds === undefined ? "" : `; goal ${goals.microseconds}`}`,
      ...(goals.microseconds === undefined ? {} : { met: thread.median <= goals.microseconds }),
    },
    {
      name: `${name}: all threads, beyond the engine alone`,
      value: all.median,
      unit: "us/token",
      beside: `${all.spread}: with what the engine's own threads differ by from run to run`,
    },
  );
}

async function stream(server: ChildProcess, url: string, body: object): Promise<Round["served"]> {
  let stage: Stage | undefined;
  const cpu = await processorTimeOf(server.pid ?? 0, async () => {
    stage = await ask<Stage>(client, { url, body } satisfies StreamRequest);
  });
  const first = stage?.events.findIndex((count) => count > 0) ?? -1;
  if (stage === undefined || first < 0) throw new Error("the stream has no events");
  return { ms: (stage.at.at(-1) ?? 0) - (stage.at[first] ?? 0), cpu };
}

function over(rounds: readonly Round[], value: (round: Round) => number) {
  const values = rounds.map(value);
  const spread = `rounds ${Math.min(...values).toPrecision(3)} to ${Math.max(...values).toPrecision(3)}`;
  return { median: median(values), spread };
}

function flagsOf(model: string, precision: string): string[] {
  return ["--model", model, "--precision", precision, "--cache-dir", cacheDir];
}

function here(file: string): string {
  return fileURLToPath(new URL(`./${file}`, import.meta.url));
}

function progress(text: string): void {
  if (!process.argv.includes("--json")) process.stderr.write(`${text}\n`);
}
