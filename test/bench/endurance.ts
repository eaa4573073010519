import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import { LocalEngine } from "../../runtime/engine/engine.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { sequenceRequest } from "../runtime/engine/requests.js";
import { benchFolder } from "./bench-model.js";
import { collectGarbage, memory } from "./memory.js";
import { argument, type Figure, median, report, timed } from "./report.js";

/**
 * One request of 100,000 tokens: memory from token 10,000 on. Then two live sequences, one at 100,000 tokens and one just
 * past G + W, stepped alternately: both steps must cost the same.
 */
const TOKENS = Number(argument("tokens") ?? 100_000);
const SETTLED = TOKENS / 10;
const STEPS = 1000;
const WINDOW = 256;
const SINKS = 10;
const folder = join("models", "default");
const figures: Figure[] = [...(await memorySlope()), ...(await stepRatio())];
report(`endurance: embedded model, ${TOKENS} tokens`, figures);

async function memorySlope(): Promise<Figure[]> {
  const options = {
    precision: "f32",
    parallel: 2,
    queueLimit: 0,
    stallTimeoutMs: 60_000,
    cacheDir: benchFolder("cache"),
  } as const;
  const engine = await LocalEngine.start({ model: folder, ...options });
  const samples: { token: number; bytes: number }[] = [];
  const began = performance.now();
  const request = sequenceRequest({
    prompt: [engine.card.bosTokenId ?? 0],
    maxTokens: TOKENS,
    sampling: { ...sequenceRequest({}).sampling, temperature: 0.8, topP: 0.95, seed: 1 },
  });
  for await (const event of engine.generate([request], new AbortController().signal)) {
    if (event.type === "error") throw new Error(event.error.message);
    if (event.type !== "token" || event.seq < SETTLED || event.seq % (TOKENS / 50) !== 0) continue;
    collectGarbage();
    samples.push({ token: event.seq, bytes: memory().rss });
  }
  const seconds = (performance.now() - began) / 1000;
  await engine.close();
  const slope = (slopeOf(samples) * 100_000) / 1e6;
  return [
    { name: "one request", value: TOKENS / seconds, unit: "tokens/s" },
    {
      name: `RSS slope from token ${SETTLED} on`,
      value: slope,
      unit: "MB per 100,000 tokens",
      beside: "goal < 5",
      met: slope < 5,
    },
    { name: "RSS at the end", value: (samples.at(-1)?.bytes ?? 0) / 1e6, unit: "MB" },
  ];
}

async function stepRatio(): Promise<Figure[]> {
  const model = await compileModel({ path: folder, precision: "f32", cacheRoot: benchFolder("cache") });
  using runner = new Runner(model, { window: WINDOW, threads: 1 });
  const cache = runner.openCache({ window: WINDOW, sinks: SINKS });
  const rows = [TOKENS, WINDOW + SINKS + 1].map((length) => {
    const row = cache.allocate();
    for (let start = 0; start < length; start += WINDOW) {
      runner.prefill(
        cache,
        row,
        Array.from({ length: Math.min(WINDOW, length - start) }, (_, i) => (start + i) % 4000),
      );
    }
    return { row, ms: [] as number[] };
  });
  for (let step = 0; step < STEPS; step++)
    for (const { row, ms } of rows) ms.push(timed(() => runner.decode(cache, row, [step])));
  const [old, young] = rows.map(({ ms }) => median(ms));
  const ratio = (old ?? 0) / (young ?? 1);
  return [
    {
      name: `step at ${TOKENS} tokens`,
      value: old ?? 0,
      unit: "ms",
      beside: `just past G + W: ${young?.toFixed(3)} ms`,
    },
    { name: "ratio of the two", value: ratio, unit: "", beside: "goal <= 1.03", met: ratio <= 1.03 },
  ];
}

/** Least-squares slope, bytes per token. */
function slopeOf(samples: readonly { token: number; bytes: number }[]): number {
  const mean = (of: (sample: { token: number; bytes: number }) => number) =>
    samples.reduce((sum, each) => sum + of(each), 0) / samples.length;
  const [token, bytes] = [mean((each) => each.token), mean((each) => each.bytes)];
  const covariance = mean((each) => (each.token - token) * (each.bytes - bytes));
  return covariance / mean((each) => (each.token - token) ** 2);
}
