import { availableParallelism } from "node:os";
import { compileModel } from "../../models/compile.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { type Contestant, fullContestant, lambdaContestant, type Text } from "./attention-contestants.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { FullRunner } from "./full-runner.js";
import { argument, type Figure, median, type Point, processorTime, report, timed } from "./report.js";

/**
 * Lambda attention beside full attention on texts of 2k to 32k tokens: time of a token, time of a prompt, and memory of the
 * cache. Full attention has a buffer of exactly the text's length and, for single tokens, the faster of two ways
 * (full-attention.ts). All take turns, step by step and section by section, in one run.
 *
 * --lengths 2048,4096  --precision q8  --only decode  --threads 1  --rounds 15  --chunk 256  --full-chunk 256
 * --processor-time: that of the process instead of the clock's, on one thread, for a machine that is shared
 * --every 4: of every prompt one chunk in 4 is run, at its own place, and counts 4 times (an estimate; default 1: whole prompts)
 */
const WINDOWS = [1024, 4096];
const GOAL = { decode: 2.72, prefill: 3.16, memory: 7.53 };
const GOAL_AT = { length: 32_768, window: 1024 };
/** The best for all: full at 32k takes 57, 48, 54 ms of one core per token in chunks of 128, 256, 512; W = 1024 takes 6.2, 4.5, 5.1. */
const CHUNK = 256;
/** Prompts are run in turns of so many tokens. */
const SECTION = 2048;

const shared = process.argv.includes("--processor-time");
const clock = shared ? processorTime : timed;
const threads = shared ? 1 : Number(argument("threads") ?? availableParallelism());
const rounds = Number(argument("rounds") ?? 15);
const every = Number(argument("every") ?? 1);
const chunk = { lambda: Number(argument("chunk") ?? CHUNK), full: Number(argument("full-chunk") ?? CHUNK) };
const lengths = (argument("lengths") ?? "2048,4096,8192,16384,32768")
  .split(",")
  .map(Number)
  .sort((a, b) => a - b);
const precisions = (["f32", "q8"] as const).filter((each) => each === (argument("precision") ?? each));
const phases = (["decode", "prefill"] as const).filter((each) => each === (argument("only") ?? each));
if (precisions.length === 0 || phases.length === 0)
  throw new RangeError("--precision takes f32 or q8, --only takes decode or prefill");
if (!(Number.isInteger(every) && every > 0 && every * Math.max(chunk.lambda, chunk.full) <= SECTION))
  throw new RangeError(`--every times a chunk has to fit into ${SECTION} tokens`);
for (const length of lengths)
  if (!(length > 0 && length % SECTION === 0))
    throw new RangeError(`--lengths takes multiples of ${SECTION}, not ${length}`);

type Phase = (typeof phases)[number];
/** Per contestant, the last of which is full attention: its time, and the median of full's beside it. */
interface Times {
  readonly ms: readonly number[];
  readonly ratios: readonly number[];
}

const figures: Figure[] = [];
const points: Point[] = [];
const path = randomLlama(SMOLLM2);
let memoryShown = false;

for (const precision of precisions) {
  const model = await compileModel({ path, precision, cacheRoot: benchFolder("cache") });
  using lambda = new Runner(model, { window: Math.max(...WINDOWS), threads });
  using full = new FullRunner(path, model, threads);
  const contestants = [
    ...WINDOWS.map((window) => lambdaContestant(lambda, window, chunk.lambda)),
    fullContestant(full, chunk.full),
  ];
  if (!memoryShown) for (const length of lengths) showMemory(contestants, length);
  memoryShown = true;
  if (phases.includes("decode"))
    for (const length of lengths) show(precision, "decode", length, decode(contestants, length));
  if (phases.includes("prefill"))
    for (const [length, times] of prefill(contestants)) show(precision, "prefill", length, times);
}
report(
  "lambda attention beside full attention: SmolLM2-135M shape, random weights",
  figures,
  [
    `${threads} threads, ${shared ? "processor time" : "wall clock"}; 10 starting tokens; full attention in place, in a buffer of the text's length: GroupQueryAttention or, where faster, products per group of heads`,
    `decode: medians of ${rounds} rounds in turns, ratios round by round, on caches filled with noise: time does not depend on what is in them`,
    `prefill: ${every === 1 ? "whole prompts" : `one chunk in ${every}, counted ${every} times`}, in chunks of ${chunk.lambda} (full: ${chunk.full}); shorter lengths are beginnings of the longest`,
    "goals: figures of the paper (arXiv 2308.16137) for Llama-2-7B on a GPU",
  ],
  { x: "tokens", y: "ms per generated token", points },
);

/** Of the ways that a contestant has, the faster one counts. */
function decode(contestants: readonly Contestant[], length: number): Times {
  using texts = openAll(contestants, length, true);
  const ways = texts.all.map((text) => {
    text.skip(length - rounds - 2);
    return text.decode.map((step) => ({ step, ms: [] as number[] }));
  });
  for (const { step } of ways.flat()) step(1);
  for (let round = 0; round < rounds; round++)
    for (const { step, ms } of ways.flat()) ms.push(clock(() => step(round)));
  const ms = ways.map((all) => all.map((way) => way.ms).reduce((a, b) => (median(b) < median(a) ? b : a)));
  const beside = ms.at(-1) ?? [];
  const ratios = ms.map((own) => median(own.map((each, round) => (beside[round] ?? 0) / each)));
  return { ms: ms.map(median), ratios };
}

/** Times of every length. */
function prefill(contestants: readonly Contestant[]): Map<number, Times> {
  const longest = lengths.at(-1) ?? 0;
  using texts = openAll(contestants, longest, every > 1);
  const ms = contestants.map(() => 0);
  const found = new Map<number, Times>();
  for (let end = SECTION; end <= longest; end += SECTION) {
    for (const [i, text] of texts.all.entries()) {
      const size = contestants[i]?.chunk ?? SECTION;
      for (let start = end - SECTION; start < end; start += size) {
        const tokens = Math.min(size, end - start);
        if (Math.floor(start / size) % every !== every >> 1) text.skip(tokens);
        else ms[i] = (ms[i] ?? 0) + every * clock(() => text.prefill(someIds(start, tokens)));
      }
    }
    process.stderr.write(`prefill ${end} tokens: ${ms.map((each) => (each / 1000).toFixed(1)).join(", ")} s\n`);
    if (lengths.includes(end)) found.set(end, { ms: [...ms], ratios: ms.map((own) => (ms.at(-1) ?? 0) / own) });
  }
  return found;
}

function someIds(start: number, tokens: number): number[] {
  return Array.from({ length: tokens }, (_, i) => ((start + i) * 7919) % SMOLLM2.vocab);
}

function openAll(
  contestants: readonly Contestant[],
  length: number,
  noise: boolean,
): Disposable & { readonly all: Text[] } {
  const all = contestants.map((each) => each.open(length, noise));
  return {
    all,
    [Symbol.dispose]() {
      for (const text of all) text[Symbol.dispose]();
    },
  };
}

function show(precision: AskedPrecision, phase: Phase, length: number, { ms, ratios }: Times): void {
  const shown = (each = 0) => (phase === "decode" ? `${each.toFixed(1)} ms/token` : `${(each / 1000).toFixed(1)} s`);
  for (const [i, window] of WINDOWS.entries())
    compare(
      `${precision}: ${phase}`,
      length,
      window,
      ratios[i] ?? 0,
      "x faster",
      `${shown(ms[i])}, full ${shown(ms.at(-1))}`,
      GOAL[phase],
    );
  if (phase !== "decode") return;
  for (const [i, each] of ms.entries())
    points.push({ series: `${precision}, ${i < WINDOWS.length ? `W = ${WINDOWS[i]}` : "full"}`, x: length, y: each });
}

/** The same in all precisions: keys and values are f32. */
function showMemory(contestants: readonly Contestant[], length: number): void {
  using texts = openAll(contestants, length, true);
  const bytes = texts.all.map((text) => text.bytes);
  const full = bytes.at(-1) ?? 0;
  const shown = (each: number) => `${(each / 1e6).toFixed(1)} MB`;
  for (const [i, window] of WINDOWS.entries()) {
    const own = bytes[i] ?? 0;
    compare("cache", length, window, full / own, "x smaller", `${shown(own)}, full ${shown(full)}`, GOAL.memory);
  }
}

function compare(
  what: string,
  length: number,
  window: number,
  value: number,
  unit: string,
  beside: string,
  goal: number,
): void {
  const name = `${what}, ${length} tokens, W = ${window}`;
  const held = length === GOAL_AT.length && window === GOAL_AT.window;
  figures.push({
    name,
    value,
    unit,
    beside: held ? `${beside}; goal ${goal} x` : beside,
    ...(held ? { met: value >= goal } : {}),
  });
}
