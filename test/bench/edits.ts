import { compileModel } from "../../models/compile.js";
import { hook } from "../../models/hooks.js";
import type { FeatureEdit } from "../../runtime/contract/features.js";
import { type ResidualEdits, residualEdits } from "../../runtime/graphs/residual-edits.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { randomSaeFolder } from "./random-sae-folder.js";
import { argument, type Figure, median, processorTime, report } from "./report.js";

/**
 * What edits of a top-AFA SAE's features cost a token: of activations before its cut, and of those that it keeps, for which
 * it encodes the residual. Processor time of one thread, in turns.
 */
const WINDOW = 1024;
const LAYER = 8;
const ROUNDS = Number(argument("rounds") ?? 8);
const STEPS = 4;
const dSae = Number(argument("features") ?? 16 * SMOLLM2.hidden);

const cacheRoot = benchFolder("cache");
const folder = randomLlama(SMOLLM2);
const model = await compileModel({ path: folder, precision: "f32", cacheRoot });
using saes = await AttachedSaes.attach({
  choice: {
    folders: [{ id: "a", folder: randomSaeFolder(hook.residPost(LAYER), SMOLLM2.hidden, dSae) }],
    precision: "f32",
    anyModel: false,
  },
  model,
  folder,
  names: ["bench"],
  cacheRoot,
  threads: 1,
  spin: false,
});
using runner = new Runner(model, {
  window: WINDOW,
  threads: 1,
  spin: false,
  taps: saes.hooks,
  cuttingSaes: saes.cutting,
});

const scaled = (count: number, from: FeatureEdit["from"]): ResidualEdits =>
  residualEdits(
    Array.from({ length: count }, (_, feature) => ({ sae: "a", feature, op: "scale", value: 1, from })),
    (id) => saes.editable(id),
  );
interface Case {
  readonly name: string;
  readonly edits: ResidualEdits | null;
  readonly ms: number[];
}
const cases: readonly Case[] = [
  { name: "no edits", edits: null, ms: [] },
  { name: "1 feature, before the cut", edits: scaled(1, "pre"), ms: [] },
  ...[1, 8, 64, 256].map((count) => ({ name: `features as kept: ${count}`, edits: scaled(count, "kept"), ms: [] })),
];

const cache = runner.openCache({ window: WINDOW, sinks: 10 });
const row = cache.allocate();
const prompt = Array.from({ length: 128 }, (_, i) => i);
for (let tokens = 0; tokens < WINDOW; tokens += prompt.length) runner.prefill(cache, row, prompt);
for (let round = 0; round < ROUNDS; round++)
  for (const { edits, ms } of cases) {
    const step = () => void runner.decode(cache, row, [round], { edits: [edits] });
    step(); // binds the edits
    for (let i = 0; i < STEPS; i++) ms.push(processorTime(step));
  }
runner.closeCache(cache);

const plain = median(cases[0]?.ms ?? []);
const figures = cases.map(
  ({ name, ms }): Figure => ({
    name,
    value: median(ms),
    unit: "ms/token",
    beside: `${(median(ms) / plain).toFixed(2)} x a step without edits`,
  }),
);
report(`edits: SmolLM2-135M shape in f32, one SAE of ${dSae} features, one thread`, figures);
