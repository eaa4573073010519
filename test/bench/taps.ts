import { availableParallelism } from "node:os";
import { compileModel } from "../../models/compile.js";
import { hook } from "../../models/hooks.js";
import type { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import type { FeatureRequest, SaeReading } from "../../runtime/contract/features.js";
import { Runner } from "../../runtime/graphs/runner.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { randomSaeFolder } from "./random-sae-folder.js";
import { argument, type Figure, median, report, timed } from "./report.js";

/**
 * What reading features costs a token: decoding with 0, 1, 3 and 6 SAEs of 16 times the model's width, all five scalars
 * and the top 8, encoders in f32 and 8 bit, in turns. The floor is the share of bytes that the SAEs add to a step's.
 */
const WINDOW = 1024;
const ROUNDS = Number(argument("rounds") ?? 40);
const STEPS = 6;
const COUNTS = [1, 3, 6];
const LAYERS = [4, 8, 12, 16, 20, 24];
const WIDTH = 16 * SMOLLM2.hidden;
const GOAL = { f32: 1.3, q8: 0.1 };

const threads = Number(argument("threads") ?? availableParallelism());
const cacheRoot = benchFolder("cache");
const folder = randomLlama(SMOLLM2);
const model = await compileModel({ path: folder, precision: "f32", cacheRoot });
const folders = LAYERS.map((layer) => ({ folder: randomSaeFolder(hook.residPost(layer), SMOLLM2.hidden, WIDTH) }));
const attach = (precision: "f32" | "q8") =>
  AttachedSaes.attach({
    choice: { folders, precision, anyModel: false },
    model,
    folder,
    names: ["bench"],
    cacheRoot,
    threads,
    spin: true,
  });
const attached = { f32: await attach("f32"), q8: await attach("q8") };
using runner = new Runner(model, { window: WINDOW, threads, taps: attached.f32.hooks });
using plain = new Runner(model, { window: WINDOW, threads });

function filled(each: Runner): { readonly runner: Runner; readonly cache: LambdaCache } {
  const cache = each.openCache({ window: WINDOW, sinks: 10 });
  const row = cache.allocate();
  const tokens = Array.from({ length: WINDOW + 74 }, (_, i) => (i * 7919) % SMOLLM2.vocab);
  for (let i = 0; i < tokens.length; i += 128) each.prefill(cache, row, tokens.slice(i, i + 128));
  return { runner: each, cache };
}
const [untapped, tapped] = [filled(plain), filled(runner)];

const requestOf = (count: number): FeatureRequest => ({
  saes: attached.f32.cards.slice(0, count).map(({ id }) => id),
  top: 8,
  activation: { kind: "native" },
  prompt: false,
});
let last: SaeReading[] = [];
function step(token: number, count: number, precision: "f32" | "q8"): void {
  const residuals: Residuals = new Map();
  tapped.runner.decode(tapped.cache, 0, [token], { residuals });
  last = attached[precision].read(requestOf(count), residuals)[0] ?? [];
}

interface Case {
  readonly name: string;
  readonly count: number;
  readonly precision: "f32" | "q8";
  readonly run: (token: number) => void;
  readonly ms: number[];
  /** Against the step without SAEs of the same round. */
  readonly slowdowns: number[];
}
const cases: Case[] = [
  {
    name: "a build without taps",
    count: 0,
    run: (token: number) => void untapped.runner.decode(untapped.cache, 0, [token]),
  },
  { name: "0 SAEs asked for", count: 0, run: (token: number) => void tapped.runner.decode(tapped.cache, 0, [token]) },
  ...(["f32", "q8"] as const).flatMap((precision) =>
    COUNTS.map((count) => ({
      name: `${count} SAEs, ${precision}`,
      count,
      precision,
      run: (token: number) => step(token, count, precision),
    })),
  ),
].map((each) => ({ precision: "f32", ...each, ms: [], slowdowns: [] }));

const kept: number[] = [];
for (const each of cases) each.run(1);
for (let round = 0; round < ROUNDS; round++) {
  for (const each of cases) {
    const times = Array.from({ length: STEPS }, (_, i) => timed(() => each.run(round * STEPS + i)));
    each.ms.push(median(times.slice(1)));
    for (const { l0 } of each.count === 6 ? last : []) kept.push(l0);
  }
  const base = cases[1]?.ms.at(-1) ?? 1;
  for (const each of cases) each.slowdowns.push((each.ms.at(-1) ?? 0) / base - 1);
}

const stepBytes = model.weights.bytes + 2 * SMOLLM2.layers * SMOLLM2.kvHeads * SMOLLM2.headDim * 4 * (WINDOW + 10);
const keptBytes = median(kept) * SMOLLM2.hidden * 4;
const encoderBytes = (precision: "f32" | "q8") => SMOLLM2.hidden * WIDTH * (precision === "f32" ? 4 : 1 + 4 / 32);
const figures: Figure[] = cases.map(({ name, count, precision, ms, slowdowns }) => {
  const slowdown = median(slowdowns);
  const floor = (count * (encoderBytes(precision) + keptBytes)) / stepBytes;
  const figure = { name, value: median(ms), unit: "ms/token" };
  if (count === 0) return { ...figure, beside: `${percent(slowdown)} beside 0 SAEs` };
  const beside = `slowdown ${percent(slowdown)}; bytes ${percent(floor)}: ${(slowdown / floor).toFixed(2)} x that floor`;
  if (precision === "f32")
    return { ...figure, beside: `${beside}, goal ${GOAL.f32} x`, met: slowdown <= GOAL.f32 * floor };
  return count === 3
    ? { ...figure, beside: `${beside}; goal ${percent(GOAL.q8)}`, met: slowdown <= GOAL.q8 }
    : { ...figure, beside };
});
figures.push({ name: "features kept by top-AFA", value: median(kept), unit: `of ${WIDTH} (median)` });
report(
  "taps: SmolLM2-135M shape in f32, SAEs of 16 times its width, random weights",
  [...figures, ...errors()],
  [`${threads} threads; medians of ${ROUNDS} rounds of ${STEPS - 1} steps, taken in turns`],
);

/** What 8-bit encoders change, on residuals of the model. */
function errors(): Figure[] {
  const differences = {
    z: [] as number[],
    f: [] as number[],
    l0: [] as number[],
    value: [] as number[],
    mse: [] as number[],
  };
  let same = 0;
  let listed = 0;
  for (let token = 0; token < 50; token++) {
    const residuals: Residuals = new Map();
    runner.decode(tapped.cache, 0, [token * 97], { residuals });
    const [exact, rounded] = (["f32", "q8"] as const).map(
      (precision) => attached[precision].read(requestOf(6), residuals)[0],
    );
    for (const [i, a] of (exact ?? []).entries()) {
      const b = rounded?.[i];
      if (b === undefined) continue;
      differences.f.push(Math.abs(b.f / a.f - 1));
      differences.l0.push(Math.abs(b.l0 - a.l0));
      differences.mse.push(Math.abs(b.mse / a.mse - 1));
      for (const [at, feature] of a.indices.entries()) {
        const found = b.indices.indexOf(feature);
        listed += 1;
        if (found < 0) continue;
        same += 1;
        differences.value.push(Math.abs((b.values[found] ?? 0) - (a.values[at] ?? 0)) / (a.values[0] ?? 1));
      }
    }
  }
  const share = (name: string, values: readonly number[]) => ({
    name: `8-bit encoders: ${name}`,
    value: 100 * median(values),
    unit: "% off (median)",
    beside: `largest ${(100 * Math.max(...values)).toFixed(2)} %`,
  });
  return [
    share("activations of the top 8", differences.value),
    share("f", differences.f),
    share("mse", differences.mse),
    {
      name: "8-bit encoders: l0",
      value: median(differences.l0),
      unit: "features off (median)",
      beside: `largest ${Math.max(...differences.l0)}`,
    },
    { name: "8-bit encoders: of the top 8 also in the top 8", value: (100 * same) / listed, unit: "%" },
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
