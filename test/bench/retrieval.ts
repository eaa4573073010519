import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import { Archive } from "../../runtime/cache/archive.js";
import type { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { benchFolder } from "./bench-model.js";
import { argument, type Figure, median, report, timed } from "./report.js";

/**
 * What middle retrieval costs, embedded model: a step of a text that does not retrieve, in a process where no text ever did
 * and in one where another does, in turns; and a step that retrieves from archives of several lengths.
 */
const WINDOW = 256;
const SINKS = 10;
const GEOMETRY = { window: WINDOW, sinks: SINKS };
const LENGTHS = [1024, 16_384, 65_536];
const STEPS = Number(argument("steps") ?? 400);

const model = await compileModel({
  path: join("models", "default"),
  precision: "f32",
  cacheRoot: benchFolder("cache"),
});
const tokens = Array.from({ length: WINDOW }, (_, i) => (i * 7919) % model.shape.vocabSize);
const open = (runner: Runner): LambdaCache => {
  const cache = runner.openCache(GEOMETRY);
  const row = cache.allocate();
  for (let i = 0; i < 3; i++) runner.prefill(cache, row, tokens);
  return cache;
};

using alone = new Runner(model, { window: WINDOW, threads: 1 });
using beside = new Runner(model, { window: WINDOW, threads: 1 });
const plain = open(alone);
const neighbour = open(beside);
const texts = LENGTHS.map((length) => {
  const retrieval = { k: 5, fromLayer: 2, distance: WINDOW / 2 };
  const archive = new Archive(model.shape, { ...GEOMETRY, retrieval, tokens: length + STEPS + 1 });
  const cache = beside.openCache(GEOMETRY);
  const row = cache.allocate();
  for (let i = 0; i < length / WINDOW; i++) beside.prefill(cache, row, tokens, [], { archive });
  return { length, archive, step: () => beside.decode(cache, row, [1], { archive }), ms: [] as number[] };
});

const off: number[] = [];
const offBeside: number[] = [];
for (let step = 0; step < STEPS; step++) {
  off.push(timed(() => alone.decode(plain, 0, [1])));
  offBeside.push(timed(() => beside.decode(neighbour, 0, [1])));
  for (const { step, ms } of texts) ms.push(timed(step));
}

const ratio = median(offBeside.map((ms, i) => ms / (off[i] ?? 1)));
const figures: Figure[] = [
  { name: "step without retrieval, no text ever did", value: median(off), unit: "ms" },
  {
    name: "step without retrieval, beside texts that do",
    value: median(offBeside),
    unit: "ms",
    beside: `${ratio.toFixed(3)} x, goal 1.03`,
    met: ratio <= 1.03,
  },
  ...texts.map(({ length, archive, ms }) => ({
    name: `step that retrieves from ${length} tokens`,
    value: median(ms),
    unit: "ms",
    beside: `${(median(ms) / median(off)).toFixed(2)} x; archive ${(archive.bytes / 1e6).toFixed(1)} MB`,
  })),
];
report("middle retrieval: embedded model, k 5 from layer 2", figures);
