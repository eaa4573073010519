import { fork } from "node:child_process";
import { join } from "node:path";
import { LocalEngine } from "../../runtime/engine/engine.js";
import { HIGH_WATER } from "../../server/traces/outbox.js";
import { countedEngine } from "../server/counted-engine.js";
import { serve } from "../server/with-server.js";
import { benchFolder } from "./bench-model.js";
import { collectGarbage, memory } from "./memory.js";
import { argument, median, report } from "./report.js";
import type { ReaderReport } from "./trace-reader.js";

/**
 * 100,000 tokens of the embedded model with its three SAEs over one WebSocket, read by another process that stops 20 times
 * until the server has stopped generating. The same seeded request over HTTP must give the same ids.
 */
const TOKENS = Number(argument("tokens") ?? 100_000);
const STOPS = Number(argument("stops") ?? 20);
const TOP = Number(argument("top") ?? 8);
/** Name and scalars of three SAEs, their features, and the rest of a frame. */
const LARGEST_FRAME = 3 * (TOP * 8 + 200) + 200;
const QUIET_MS = 1000;

const options = { precision: "f32", parallel: 2, queueLimit: 2, stallTimeoutMs: 600_000 } as const;
const local = await LocalEngine.start({ model: join("models", "default"), cacheDir: benchFolder("cache"), ...options });
const { engine, taken } = countedEngine(local);
const server = await serve(engine);
const body = { prompt: "Once upon a time", max_tokens: TOKENS, seed: 11, ignore_eos: true, features: { top: TOP } };

const ahead: number[] = [];
const queued: number[] = [];
const samples: number[] = [];
const began = performance.now();
let stopped = 0;
const ids = await read();
const seconds = (performance.now() - began - stopped) / 1000;
const answer = await fetch(new URL("/v1/completions", server.url), {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ ...body, features: null, return_token_ids: true }),
});
const want: number[] = Object(await answer.json()).choices[0].token_ids;
const different = want.findIndex((id, i) => id !== ids[i]);
await server.drain(0);
await local.close();

const bound = HIGH_WATER + LARGEST_FRAME;
const growth = (samples.at(-1) ?? 0) - (samples[Math.floor(samples.length / 10)] ?? 0);
report(`trace endurance: embedded model, 3 SAEs, ${TOKENS} tokens over WebSocket, ${STOPS} stops`, [
  { name: "tokens read, numbered without a gap", value: ids.length, unit: "", met: ids.length === TOKENS },
  {
    name: "first id that differs from HTTP's",
    value: different,
    unit: "",
    beside: "goal: -1, none",
    met: different === -1 && want.length === ids.length,
  },
  { name: "rate while it reads", value: TOKENS / seconds, unit: "tokens/s with all features" },
  { name: "stops at which the engine stopped too", value: ahead.filter((n) => n < TOKENS).length, unit: `of ${STOPS}` },
  {
    name: "bytes queued in the server at a stop",
    value: Math.max(...queued),
    unit: "bytes (largest)",
    beside: `bound ${bound}`,
    met: Math.max(...queued) <= bound,
  },
  {
    name: "RSS of the server, last stop minus an early one",
    value: growth / 1e6,
    unit: "MB",
    beside: `goal < 5; median ${(median(samples) / 1e6).toFixed(0)} MB`,
    met: growth < 5e6,
  },
]);

/** Runs the reader; tells it to go on whenever the engine has come to rest. */
async function read(): Promise<readonly number[]> {
  const child = fork(new URL("./trace-reader.js", import.meta.url), [server.url, JSON.stringify(body), String(STOPS)], {
    execArgv: [],
  });
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the reader ended with ${code}`)));
    child.on("message", async ({ type, ids: read }: ReaderReport) => {
      if (type === "done") return resolve(read);
      const since = performance.now();
      await rest();
      stopped += QUIET_MS;
      ahead.push(taken());
      const { queued_bytes } = Object(await (await fetch(new URL("/health", server.url))).json());
      queued.push(queued_bytes);
      collectGarbage();
      samples.push(memory().rss);
      if (!process.argv.includes("--json"))
        process.stderr.write(`stop ${ahead.length}: ${taken()} tokens, ${Math.round(performance.now() - since)} ms\n`);
      child.send("go");
    });
  });
}

/** Waits until the engine gives no more events. */
async function rest(): Promise<void> {
  for (let before = -1; before !== taken(); ) {
    before = taken();
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  }
}
