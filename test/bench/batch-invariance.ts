import { readdirSync } from "node:fs";
import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import { PRECISIONS } from "../../models/weights/block-format.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { goldenArchitectures } from "../golden-tensors.js";
import type { LlamaSizes } from "../models/random-model.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import {
  compareLeft,
  compareSteps,
  cut,
  decodeTogether,
  type Finding,
  type Left,
  leftBy,
  someIds,
} from "./invariance-runs.js";
import { argument, type Figure, report } from "./report.js";

/**
 * Compares, bit for bit, the logits of a row alone with those among 2 to 16 rows and in longer buffers, and the keys, values
 * and later logits of a prompt cut in different places. Nothing is timed.
 *
 * --model smollm2,embedded,wide,odd,golden or a path  --precision f32,q8-block,int8,q4  --threads 1,2
 * --rows 2,3,4,5,8,12,16  --parts rows,windows,slots,cuts,evicting,singles
 */
const list = (name: string, usual: string): string[] => (argument(name) ?? usual).split(",");
const numbers = (name: string, usual: string): number[] => list(name, usual).map(Number);

/** Sums over thousands of inputs; and sizes that are no multiples of 16. */
const WIDE: LlamaSizes = {
  layers: 2,
  hidden: 2048,
  heads: 16,
  kvHeads: 4,
  headDim: 128,
  intermediate: 5632,
  vocab: 8192,
};
const ODD: LlamaSizes = {
  layers: 3,
  hidden: 1000,
  heads: 10,
  kvHeads: 2,
  headDim: 100,
  intermediate: 2730,
  vocab: 5003,
};
const NAMED: Readonly<Record<string, () => string[]>> = {
  smollm2: () => [randomLlama(SMOLLM2)],
  embedded: () => [join("models", "default")],
  wide: () => [randomLlama(WIDE)],
  odd: () => [randomLlama(ODD)],
  golden: () => [
    ...goldenArchitectures().map(({ name }) => join("test", "golden", "architectures", name)),
    ...readdirSync(join("test", "golden"))
      .filter((name) => name.startsWith("lm-infinite"))
      .map((name) => join("test", "golden", name)),
  ],
};

type Open = (window: number) => Runner;

const SINKS = 4;
const STEPS = 4;
const rows = numbers("rows", "2,3,4,5,8,12,16");
const threads = numbers("threads", "1,2");
const parts = new Set(list("parts", "rows,windows,slots,cuts,evicting,singles"));
const asked = new Set(list("precision", "f32,q8-block,int8,q4"));
const figures: Figure[] = [];

for (const name of list("model", "embedded,smollm2"))
  for (const path of NAMED[name]?.() ?? [name])
    for (const precision of PRECISIONS.filter((each) => asked.has(each))) {
      const model = await compileModel({ path, precision, cacheRoot: benchFolder("cache") });
      for (const count of threads) {
        const open = (window: number) => new Runner(model, { window, threads: count, spin: false });
        const label = `${NAMED[name] && name !== "golden" ? name : path.replace(/^.*golden\//, "")} ${precision}, ${count} threads`;
        if (parts.has("rows")) for (const window of [256, 32]) amongRows(label, open, window);
        if (parts.has("windows")) amongRows(label, open, 256, true);
        if (parts.has("slots")) inLongerBuffers(label, open);
        if (parts.has("cuts")) cutAnywhere(label, open, 1024, 600);
        if (parts.has("evicting")) cutAnywhere(label, open, 128, 400);
      }
    }
report("bit for bit: what a text's neighbours and cuts change", figures, [
  `every value compared: logits of ${STEPS} steps of every row; keys and values of all layers and later logits of a prompt`,
  "prompts: alike means that these cuts give the same bits; chunks of one token, and tokens that are decoded, are listed apart",
]);

/**
 * Texts of 3 to 122 tokens: with the smaller window the ring has wrapped in most rows. With `mixed` each has a window of
 * its own, and rows sit out some runs.
 */
function amongRows(label: string, open: Open, window: number, mixed = false): void {
  using runner = open(window);
  const { vocabSize } = runner.model.shape;
  const texts = Array.from({ length: Math.max(...rows) }, (_, i) => {
    const own = mixed ? [window, 16, 100, 48, 31][i % 5]! : window;
    const prompt = someIds(vocabSize, i, 3 + ((i * 53) % 120));
    return { chunks: cut(prompt, [Math.min(64, own)]), answer: someIds(vocabSize, 100 + i, STEPS), window: own };
  });
  const alone = texts.flatMap((text) => decodeTogether(runner, { window: text.window, sinks: SINKS }, [text]));
  const waits = (row: number, run: number) => mixed && (row + run) % 3 === 0;
  const found = rows.map((count) => {
    const among = decodeTogether(runner, { window, sinks: SINKS }, texts.slice(0, count), { waits });
    return { way: String(count), ...compareSteps(alone.slice(0, count), among) };
  });
  const which = mixed ? "windows of 16 to 256, rows waiting" : `W = ${window}`;
  add(`${label}: a row alone and among others, ${which}`, found);
}

function inLongerBuffers(label: string, open: Open): void {
  using runner = open(1024);
  const { vocabSize } = runner.model.shape;
  const text = { chunks: cut(someIds(vocabSize, 3, 90), [32]), answer: someIds(vocabSize, 4, STEPS) };
  const geometry = { window: 1024, sinks: SINKS };
  const short = decodeTogether(runner, geometry, [text]);
  const found = [300, 600, 1024].map((tokens) => ({
    way: String(tokens),
    ...compareSteps(short, decodeTogether(runner, geometry, [text], { tokens })),
  }));
  add(`${label}: in buffers for its own 94 tokens and for more`, found);
}

/** Ways to cut a prompt, grouped by what they leave. */
function cutAnywhere(label: string, open: Open, window: number, most: number): void {
  using runner = open(window);
  const { vocabSize, learnedPositions } = runner.model.shape;
  const answer = someIds(vocabSize, 6, 2);
  const tokens = Math.min(most, (learnedPositions ?? most + answer.length) - answer.length);
  const ids = someIds(vocabSize, 5, tokens);
  const geometry = { window, sinks: SINKS };
  const ways: [string, readonly number[]][] = [128, 2, 3, 5, 8, 16, 32, 37, 64, 100, 256, 512]
    .filter((size) => size <= window)
    .map((size) => [String(size), [size]]);
  ways.push(["mixed", [3, 61, 40, 2, 22, 64]], ["mixed otherwise", [70, 7, 51, 64]]);
  if (parts.has("singles")) ways.push(["1", [1]], ["decoded", [tokens]]);
  const groups: { readonly ways: string[]; readonly left: Left; readonly apart: Finding | null }[] = [];
  for (const [way, sizes] of ways) {
    const left = leftBy(runner, geometry, { chunks: cut(ids, sizes), answer }, way === "decoded" ? way : "prefilled");
    const same = groups.find((group) => compareLeft(group.left, left).first === null);
    if (same === undefined)
      groups.push({ ways: [way], left, apart: groups[0] === undefined ? null : compareLeft(groups[0].left, left) });
    else same.ways.push(way);
  }
  const [alike, ...others] = groups;
  const farthest = Math.max(0, ...others.map(({ apart }) => apart?.largest ?? 0));
  const differ = others.map(({ ways: own }) => own.join(" ")).join(" | ");
  show({
    name: `${label}: a prompt of ${tokens} tokens, W = ${window}`,
    value: alike?.ways.length ?? 0,
    unit: `of ${ways.length} ways to cut it alike`,
    beside: `alike: ${alike?.ways.join(" ")}${others.length === 0 ? "" : `; apart by at most ${farthest.toPrecision(2)}: ${differ}`}`,
  });
}

function show(figure: Figure): void {
  figures.push(figure);
  if (!process.argv.includes("--json"))
    process.stderr.write(`${figure.name}: ${figure.value} ${figure.unit}; ${figure.beside}\n`);
}

function add(name: string, found: readonly (Finding & { readonly way: string })[]): void {
  const apart = found.filter(({ first }) => first !== null);
  show({
    name,
    value: found.length - apart.length,
    unit: `of ${found.length} equal`,
    beside:
      apart.length === 0
        ? `${found.map(({ way }) => way).join(" ")}: ${found.at(-1)?.size} values equal`
        : `not: ${apart.map((each) => `${each.way} (${shown(each)})`).join(", ")}`,
    met: apart.length === 0,
  });
}

function shown({ differing, size, largest, first }: Finding): string {
  return `${((100 * differing) / size).toPrecision(2)} % differ, by at most ${largest.toPrecision(2)}, first ${first}`;
}
