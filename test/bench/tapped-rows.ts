import { join } from "node:path";
import { type CompiledModel, compileModel } from "../../models/compile.js";
import { type HookName, hook } from "../../models/hooks.js";
import type { FeatureRequest } from "../../runtime/contract/features.js";
import { Runner } from "../../runtime/graphs/runner.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { benchFolder } from "./bench-model.js";
import { randomSaeFolder } from "./random-sae-folder.js";
import { argument, type Figure, median, processorTime, report } from "./report.js";

/**
 * What a step's readings cost a row: 3 SAEs on every one of 1, 4 and 16 rows, read together, beside one row read alone.
 * Processor time of one thread, which neighbours disturb least; cases are taken in turns, and between two steps as many
 * bytes pass through the caches as the embedded model has weights, because a model's step stands there.
 */
const ROWS = [1, 4, 16];
const LAYERS = [1, 3, 5];
const ROUNDS = Number(argument("rounds") ?? 15);
const GOAL = 0.5;
/** Of one case in one round. */
const ROW_READINGS = { embedded: 640, large: 32 };
const LARGE = { dIn: 768, dSae: 12288 };
const ACTIVATIONS: readonly FeatureRequest["activation"][] = [{ kind: "native" }, { kind: "top-k", k: 32 }];

const folder = join("models", "default");
const cacheRoot = benchFolder("cache");
const model = await compileModel({ path: folder, precision: "f32", cacheRoot });
const hooks = LAYERS.map(hook.residPost);

const attach = (read: CompiledModel, precision: "f32" | "q8", folders?: readonly { readonly folder: string }[]) =>
  AttachedSaes.attach({
    choice: { folders, precision, anyModel: false },
    model: read,
    folder,
    names: ["default"],
    cacheRoot,
    threads: 1,
    spin: false,
  });

/** Of tokens of the embedded model. */
function embeddedRows(): Residuals {
  using runner = new Runner(model, { window: 256, threads: 1, taps: new Set(hooks) });
  const cache = runner.openCache({ window: 256, sinks: 4 });
  const residuals: Residuals = new Map();
  const tokens = Array.from({ length: 16 }, (_, i) => (i * 7919) % model.shape.vocabSize);
  runner.prefill(cache, cache.allocate(), tokens, [], { residuals });
  return residuals;
}

function randomRows(): Residuals {
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return new Map(hooks.map((name) => [name, Float32Array.from({ length: 16 * LARGE.dIn }, normal)]));
}

interface Case {
  readonly name: string;
  readonly rows: number;
  /** Reads a step of `rows` rows. */
  readonly step: () => void;
  readonly repeats: number;
  /** Of a row, per round. */
  readonly us: number[];
}

function casesOf(name: keyof typeof ROW_READINGS, saes: AttachedSaes, residuals: Residuals, dIn: number): Case[][] {
  return ACTIVATIONS.map((activation) => {
    const request = { saes: saes.cards.map(({ id }) => id), top: 8, activation, prompt: false };
    const shown = activation.kind === "top-k" ? `top-${activation.k}` : `own cut (${saes.cards[0]?.activation})`;
    return ROWS.map((rows): Case => {
      const first = new Map<HookName, Float32Array>(
        [...residuals].map(([at, values]) => [at, values.subarray(0, rows * dIn)]),
      );
      const asked = Array<FeatureRequest>(rows).fill(request);
      return {
        name: `${name}, ${saes.cards[0]?.precision}, ${shown}: ${rows} row${rows > 1 ? "s" : ""}`,
        rows,
        step: () => void saes.readStep(asked, first),
        repeats: ROW_READINGS[name] / rows,
        us: [],
      };
    });
  });
}

const shape = { ...model.shape, hiddenSize: LARGE.dIn };
const folders = hooks.map((name) => ({ folder: randomSaeFolder(name, LARGE.dIn, LARGE.dSae) }));
const [embedded, random] = [embeddedRows(), randomRows()];
const groups: Case[][] = [];
for (const precision of ["f32", "q8"] as const) {
  groups.push(...casesOf("embedded", await attach(model, precision), embedded, model.shape.hiddenSize));
  groups.push(...casesOf("large", await attach({ ...model, shape }, precision, folders), random, LARGE.dIn));
}

const repeated = ({ step, repeats }: Case) => {
  for (let i = 0; i < repeats; i++) step();
};
for (const each of groups.flat()) repeated(each);
for (let round = 0; round < ROUNDS; round++)
  for (const each of groups.flat())
    each.us.push((1000 * processorTime(() => repeated(each))) / each.repeats / each.rows);

const figures = groups.flatMap(([alone, ...together]): Figure[] => [
  ...(alone === undefined ? [] : [{ name: alone.name, value: median(alone.us), unit: "us/row" }]),
  ...together.map(({ name, rows, us }): Figure => {
    const share = median(us.map((each, round) => each / (alone?.us[round] ?? each)));
    const beside = `${share.toFixed(2)} x one row alone${rows === 16 ? `, goal ${GOAL}` : ""}`;
    return { name, value: median(us), unit: "us/row", beside, ...(rows === 16 ? { met: share <= GOAL } : {}) };
  }),
]);
report("tapped-rows: a step's readings by 3 SAEs, top 8", figures, [
  `embedded: the model's own SAEs, 192 x 1,024; large: random ones, ${LARGE.dIn} x ${LARGE.dSae}`,
  `1 thread, processor time; medians of ${ROUNDS} rounds, taken in turns`,
]);
