import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { pino } from "pino";
import { LocalEngine } from "../../runtime/engine/engine.js";
import { createApp } from "../../server/app.js";
import { listen } from "../../server/http.js";
import { createModelRegistry } from "../../server/model-registry.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { type Figure, report } from "./report.js";

/** How long the thread that serves HTTP is held up while the engine decodes, a long prompt is encoded, and a model compiles. */
const GOAL_MS = 20;
const load = { precision: "f32", parallel: 2, queueLimit: 8, stallTimeoutMs: 60_000 } as const;

const engine = await LocalEngine.start({ model: join("models", "default"), ...load, cacheDir: benchFolder("cache") });
const app = createApp({
  models: createModelRegistry([{ engine }]),
  logger: pino({ level: "silent" }),
  guard: { boundHost: "127.0.0.1", allowedHosts: [], allowedOrigins: [] },
  completions: { maxBodyBytes: 32 << 20, pingMs: 10_000, systemFingerprint: "bench" },
});
const server = await listen(app.fetch, "127.0.0.1", 0);
const figures: Figure[] = [
  await delayDuring("decoding 5,000 tokens as a stream", () =>
    post({ prompt: "Once", max_tokens: 5000, ignore_eos: true, stream: true }),
  ),
  await delayDuring("encoding 100,000 tokens, then prefilling", () =>
    post({ prompt: "The pass key is here. ".repeat(17_000), max_tokens: 1 }),
  ),
  await delayDuring("compiling a model of 135 M weights", async () => {
    const cacheDir = benchFolder("cache-responsiveness");
    const other = await LocalEngine.start({ model: randomLlama(SMOLLM2), ...load, cacheDir });
    await other.close();
    rmSync(cacheDir, { recursive: true });
  }),
];
await server.drain(0);
await engine.close();
report("responsiveness: delay of the HTTP thread", figures);

async function delayDuring(name: string, work: () => Promise<void>): Promise<Figure> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await work();
  delay.disable();
  const p99 = delay.percentile(99) / 1e6;
  return {
    name,
    value: p99,
    unit: "ms (p99)",
    beside: `goal < ${GOAL_MS} ms; largest ${(delay.max / 1e6).toFixed(1)} ms`,
    met: p99 < GOAL_MS,
  };
}

/** Asks from another process, so that the client does not run on the thread that is measured. */
function post(body: Record<string, unknown>): Promise<void> {
  const script = `let body = ""; for await (const piece of process.stdin) body += piece;
    const answer = await fetch(process.argv[1], { method: "POST", headers: { "content-type": "application/json" }, body });
    if (!answer.ok) { console.error(await answer.text()); process.exit(1); }
    for await (const _ of answer.body) {}`;
  const client = spawn(process.execPath, ["--input-type=module", "-e", script, `${server.url}/v1/completions`], {
    stdio: ["pipe", "inherit", "inherit"],
  });
  client.stdin.end(JSON.stringify(body));
  return new Promise((resolve, reject) => {
    client.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`the client ended with ${code}`))));
  });
}
