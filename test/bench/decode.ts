import { availableParallelism } from "node:os";
import type { CompiledModel } from "../../models/compile.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import type { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { MatMul } from "./matmul.js";
import { argument, type Figure, median, report, timed } from "./report.js";
import { servedRunner } from "./served-runner.js";

/**
 * Decoding with a full window beside the memory bandwidth that one MatMul of 1 GiB reaches in the same run with the same
 * threads, in turns; and a short text in a long window beside one in a short window.
 */
const WINDOW = 1024;
const SINKS = 10;
const ROUNDS = Number(argument("rounds") ?? 12);
const STEPS = 12;
const GOAL: Readonly<Partial<Record<AskedPrecision, number>>> = { f32: 0.8, "q8-block": 0.65, int8: 0.65, q4: 0.55 };

const threads = Number(argument("threads") ?? availableParallelism());
const folder = randomLlama(SMOLLM2);
const precisions: readonly AskedPrecision[] = ["f32", "q8-block", "int8", "q4"];
const figures: Figure[] = [];

interface Running {
  readonly precision: AskedPrecision;
  readonly runner: Runner;
  readonly cache: LambdaCache;
  readonly bytes: number;
  readonly ms: number[];
  readonly shares: number[];
}

using bandwidth = new MatMul(1, 16384, 16384, threads);
const gigabytesPerSecond: number[] = [];
const running: Running[] = [];
for (const precision of precisions) {
  const source = { path: folder, precision, cacheRoot: benchFolder("cache") };
  const runner = await servedRunner(source, { window: WINDOW, threads });
  const { model } = runner;
  const cache = runner.openCache({ window: WINDOW, sinks: SINKS });
  const row = cache.allocate();
  const tokens = Array.from({ length: WINDOW + SINKS + 64 }, (_, i) => (i * 7919) % SMOLLM2.vocab);
  for (let i = 0; i < tokens.length; i += 128) runner.prefill(cache, row, tokens.slice(i, i + 128));
  running.push({ precision, runner, cache, bytes: bytesRead(model) + cacheBytesRead(cache), ms: [], shares: [] });
}

for (let round = 0; round < ROUNDS; round++) {
  const floor = median(Array.from({ length: 3 }, () => bandwidth.weightBytes / timed(() => bandwidth.run()) / 1e6));
  gigabytesPerSecond.push(floor);
  for (const each of running) {
    const step = () => timed(() => each.runner.decode(each.cache, 0, [round]));
    step();
    const ms = median(Array.from({ length: STEPS }, step));
    each.ms.push(ms);
    each.shares.push(each.bytes / ms / 1e6 / floor);
  }
}

figures.push({ name: "one MatMul [1,16384]x[16384,16384] f32", value: median(gigabytesPerSecond), unit: "GB/s" });
for (const { precision, bytes, ms, shares } of running) {
  const share = median(shares);
  const floor = bytes / median(gigabytesPerSecond) / 1e6;
  figures.push(
    {
      name: `${precision}: decode, window ${WINDOW} full`,
      value: median(ms),
      unit: "ms/token",
      beside: `floor ${floor.toFixed(1)} ms (${(bytes / 1e6).toFixed(0)} MB moved)`,
    },
    {
      name: `${precision}: share of that bandwidth`,
      value: share * 100,
      unit: "%",
      beside: `goal ${Math.round((GOAL[precision] ?? 0) * 100)} %`,
      met: share >= (GOAL[precision] ?? 0),
    },
  );
}

const [f32] = running;
if (f32 !== undefined) {
  const short = [256, 8192].map((window) => {
    const cache = f32.runner.openCache({ window, sinks: SINKS });
    const row = cache.allocate();
    f32.runner.prefill(
      cache,
      row,
      Array.from({ length: 99 }, (_, i) => i),
    );
    return { cache, ms: [] as number[] };
  });
  for (let round = 0; round < ROUNDS; round++)
    for (const each of short) each.ms.push(timed(() => f32.runner.decode(each.cache, 0, [1])));
  const [small, large] = short;
  if (small !== undefined && large !== undefined) {
    const time = median(large.ms) / median(small.ms);
    const bytes = large.cache.bytes / small.cache.bytes;
    figures.push(
      {
        name: "at 100 tokens, W = 8192: time",
        value: time,
        unit: "x W = 256",
        beside: "goal within 15 %",
        met: time < 1.15,
      },
      {
        name: "at 100 tokens, W = 8192: cache bytes",
        value: bytes,
        unit: "x W = 256",
        beside: "goal within 15 %",
        met: bytes < 1.15,
      },
    );
  }
}
report("decode: SmolLM2-135M shape, random weights", figures, [
  `${threads} threads; medians of ${ROUNDS} rounds of ${STEPS} steps, taken in turns`,
]);

/** Bytes of weights that one token reads: everything once, but of the embedding only a row where the head is another matrix. */
function bytesRead({ weights, precision }: CompiledModel): number {
  const embedding = weights.places.get("model.embed_tokens.weight")?.bytes ?? 0;
  return weights.bytes - (precision === "f32" ? 0 : embedding);
}

function cacheBytesRead(cache: LambdaCache): number {
  return cache.bytes;
}
