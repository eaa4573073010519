import { availableParallelism } from "node:os";
import { compileModel } from "../../models/compile.js";
import { compileSae } from "../../models/sae/compile-sae.js";
import type { Precision } from "../../models/weight-plan.js";
import { Runner } from "../../runtime/runner.js";
import { SaeReader } from "../../runtime/sae-reader.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { MatMul } from "./matmul.js";
import { randomSae } from "./random-sae.js";
import { argument, type Figure, median, report, timed } from "./report.js";

/**
 * Reading features between steps of a model: SAEs of 16 times its width, top-AFA, all five scalars and the top 8, in turns
 * with the model alone and with a MatMul that says what memory gives.
 */
const WINDOW = 1024;
const WIDTH = 16 * SMOLLM2.hidden;
const ROUNDS = Number(argument("rounds") ?? 12);
const STEPS = 6;
const COUNTS = [0, 1, 3, 6];
const PRECISIONS: readonly Precision[] = ["f32", "q8"];
const TOP_AFA = { kind: "top-afa" } as const;

const threads = Number(argument("threads") ?? availableParallelism());
const cacheRoot = benchFolder("cache");
const model = await compileModel({ folder: randomLlama(SMOLLM2), precision: "f32", cacheRoot });
using runner = new Runner(model, { window: WINDOW, threads });
const cache = runner.openCache({ window: WINDOW, sinks: 10 });
const row = cache.allocate();
const tokens = Array.from({ length: WINDOW + 64 }, (_, i) => (i * 7919) % SMOLLM2.vocab);
for (let i = 0; i < tokens.length; i += 128) runner.prefill(cache, row, tokens.slice(i, i + 128));

const residuals = Float32Array.from({ length: 512 * SMOLLM2.hidden }, (_, i) => Math.sin(i * 1.7) + Math.cos(i ** 1.5));
const token = (i: number) => residuals.subarray(i * SMOLLM2.hidden, (i + 1) * SMOLLM2.hidden);
const readers = new Map<Precision, SaeReader[]>();
for (const precision of PRECISIONS) {
  const saes = Array.from({ length: Math.max(...COUNTS) }, (_, i) => randomSae(SMOLLM2.hidden, WIDTH, i));
  const of = async (description: (typeof saes)[number]) =>
    new SaeReader(await compileSae({ description, precision, cacheRoot }), { threads });
  readers.set(precision, await Promise.all(saes.map(of)));
}
const [first] = readers.get("f32") ?? [];
const kept = Array.from({ length: 64 }, (_, i) => first?.read(token(i), TOP_AFA, 8)[0]?.l0 ?? 0);

using bandwidth = new MatMul(1, 16384, 16384, threads);
const gigabytesPerSecond: number[] = [];
const steps = PRECISIONS.flatMap((precision) =>
  COUNTS.map((count) => ({ precision, count, ms: [] as number[], perRead: [] as number[] })),
);
for (let round = 0; round < ROUNDS; round++) {
  gigabytesPerSecond.push(
    median(Array.from({ length: 3 }, () => bandwidth.weightBytes / timed(() => bandwidth.run()) / 1e6)),
  );
  for (const { precision, count, ms, perRead } of steps) {
    const saes = (readers.get(precision) ?? []).slice(0, count);
    for (let step = 0; step < STEPS; step++) {
      const residual = token((round * STEPS + step) % 512);
      const decode = timed(() => runner.decode(cache, row, [step]));
      const reads = saes.map((sae) => timed(() => sae.read(residual, TOP_AFA, 8)));
      if (step === 0) continue;
      ms.push(decode + reads.reduce((sum, each) => sum + each, 0));
      perRead.push(...reads);
    }
  }
}

const l0 = median(kept);
const modelBytes = model.weights.bytes + cache.bytes;
const encoderBytes: Record<Precision, number> = { f32: 4 * SMOLLM2.hidden * WIDTH, q8: 1.125 * SMOLLM2.hidden * WIDTH };
const figures: Figure[] = [
  { name: "one MatMul [1,16384]x[16384,16384] f32", value: median(gigabytesPerSecond), unit: "GB/s" },
  { name: "features kept per token", value: l0, unit: `of ${WIDTH.toLocaleString("en")}` },
];
for (const precision of PRECISIONS) {
  const alone = median(steps.filter(({ count }) => count === 0).flatMap(({ ms }) => ms));
  for (const { count, ms, perRead } of steps.filter((each) => each.precision === precision)) {
    const bytes = count * (encoderBytes[precision] + 4 * l0 * SMOLLM2.hidden);
    const [slowdown, floor] = [median(ms) / alone - 1, bytes / modelBytes];
    const goal = precision === "f32" ? 1.3 * floor : count === 3 ? 0.1 : undefined;
    figures.push({
      name: `${precision}: decode and ${count} SAEs`,
      value: median(ms),
      unit: "ms/token",
      beside: `+${(slowdown * 100).toFixed(1)} %, floor by bytes ${(floor * 100).toFixed(1)} %; ${median(perRead).toFixed(2)} ms a read`,
      ...(count === 0 || goal === undefined ? {} : { met: slowdown <= goal }),
    });
  }
}
for (const precision of PRECISIONS)
  for (const rows of [2, 8, 32, 128, 512]) {
    const [sae] = readers.get(precision) ?? [];
    const block = residuals.subarray(0, rows * SMOLLM2.hidden);
    const times = Array.from({ length: 5 }, () => timed(() => sae?.read(block, TOP_AFA, 8)));
    figures.push({ name: `${precision}: ${rows} rows at a time`, value: median(times) / rows, unit: "ms/row" });
  }
for (const reader of [...readers.values()].flat()) reader[Symbol.dispose]();
report("SAE reading: SmolLM2-135M shape, SAEs of 9,216 features", figures, [
  `${threads} threads; medians of ${ROUNDS} rounds of ${STEPS - 1} steps, taken in turns`,
]);
