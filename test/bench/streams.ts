import { availableParallelism } from "node:os";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import { Candidates } from "../../runtime/sampling/candidates.js";
import { Sampler } from "../../runtime/sampling/sampler.js";
import { benchFolder, SMOLLM2 } from "./bench-model.js";
import { someIds } from "./invariance-runs.js";
import { openLlamaCpp } from "./llama-cpp.js";
import { LoopStreams, sampling } from "./loop-streams.js";
import { type GgufTypes, randomGguf } from "./random-gguf.js";
import { argument, type Figure, median, processorClock, report } from "./report.js";
import { servedRunner } from "./served-runner.js";

/**
 * Tokens per second of 1 to 16 texts that are written at once, in the engine's loop, beside llama.cpp with as many
 * sequences in one context: the same GGUF file and threads, in turns within one run.
 *
 * --rounds 4  --steps 12  --streams 1,2,4,8,16  --precision f32,q8-block,int8,q4  --kv q8  --threads 2  --alone: without llama.cpp
 * --processor-time: that of the process instead of the clock's, on one thread, for a machine that is shared
 */
const WINDOW = 1024;
const SINKS = 10;
const CONTEXT = 256;
/** Of all rounds. */
const LONGEST = 512;
const ROUNDS = Number(argument("rounds") ?? 4);
const STEPS = Number(argument("steps") ?? 12);
const counts = (argument("streams") ?? "1,2,4,8,16").split(",").map(Number);
const asked = new Set((argument("precision") ?? "f32,q8-block,int8,q4").split(","));
const shared = process.argv.includes("--processor-time");
const clock = shared ? processorClock : () => performance.now();
const threads = shared ? 1 : Number(argument("threads") ?? availableParallelism());
if (CONTEXT + (ROUNDS + 1) * (STEPS + 2) > LONGEST)
  throw new RangeError(`--rounds times --steps do not fit into ${LONGEST} tokens`);

interface Contest {
  readonly precision: AskedPrecision;
  readonly types: GgufTypes;
  /** Of 16 streams, in those of one. */
  readonly goal?: number;
}
const CONTESTS: readonly Contest[] = [
  { precision: "f32", types: { layers: "F32", embedding: "F32" }, goal: 4.5 },
  { precision: "q8-block", types: { layers: "Q8_0", embedding: "Q8_0" }, goal: 5.5 },
  { precision: "int8", types: { layers: "Q8_0", embedding: "Q8_0" }, goal: 5.5 },
  { precision: "q4", types: { layers: "Q4_1", embedding: "Q8_0" } },
];
/** Largest share of sampling in a step. */
const SAMPLING_GOAL = 0.1;

const figures: Figure[] = [];
const contests = CONTESTS.filter(({ precision }) => asked.has(precision));
if (contests.length < asked.size)
  throw new RangeError(`--precision must be some of ${CONTESTS.map(({ precision }) => precision).join(",")}`);
for (const contest of contests) await measure(contest);
report("many streams: SmolLM2-135M shape, random weights, contexts of 256 tokens", figures, [
  `${threads} threads, ${shared ? "processor time" : "wall clock"}; the best of ${ROUNDS} rounds of ${STEPS} steps in turns; ratios are medians of those of the rounds`,
  "keys and values f16 there, here as served (8 bits where weights have no more); both greedy; sampling: a token of each stream drawn at temperature 1",
]);

async function measure({ precision, types, goal }: Contest): Promise<void> {
  const path = randomGguf(SMOLLM2, types);
  const source = { path, precision, cacheRoot: benchFolder("cache") };
  using runner = await servedRunner(source, { window: WINDOW, threads });
  const peer = process.argv.includes("--alone") ? null : await openLlamaCpp(path, { threads, context: LONGEST });
  const contestants = [];
  for (const count of counts) {
    const prompts = Array.from({ length: count }, (_, i) => someIds(SMOLLM2.vocab, i, CONTEXT));
    const theirs = (await peer?.streams(prompts)) ?? null;
    contestants.push({
      count,
      theirs,
      ours: new LoopStreams(runner, { window: WINDOW, sinks: SINKS }, prompts[0] ?? [], count),
    });
  }
  const times = contestants.map(({ count }) => ({
    count,
    ours: [] as number[],
    theirs: [] as number[],
    drawn: [] as number[],
  }));
  try {
    for (let round = 0; round < ROUNDS; round++)
      for (const [i, { count, ours, theirs }] of contestants.entries()) {
        const own = times[i]!;
        own.ours.push(ours.decode(STEPS, clock));
        own.drawn.push(drawing(count));
        if (theirs !== null) own.theirs.push(await theirs.decode(STEPS, clock));
        process.stderr.write(
          `${precision}, round ${round + 1}: ${count} streams, ${own.ours.at(-1)?.toFixed(1)} ms, llama.cpp ${own.theirs.at(-1)?.toFixed(1)} ms\n`,
        );
      }
  } finally {
    for (const { ours } of contestants) ours[Symbol.dispose]();
    await peer?.[Symbol.asyncDispose]();
  }
  const one = times.find(({ count }) => count === 1);
  for (const { count, ours, theirs, drawn } of times) {
    const speed = (ms: readonly number[]) => (1000 * count) / Math.min(...ms);
    const gain = one && median(ours.map((ms, round) => (count * (one.ours[round] ?? 0)) / ms));
    const ratio = theirs.length === 0 ? null : median(ours.map((ms, round) => (theirs[round] ?? 0) / ms));
    const held = count === 16 && goal !== undefined && gain !== undefined;
    const beside = [
      ...(gain === undefined || count === 1
        ? []
        : [`${gain.toFixed(2)} x one stream's${held ? `, goal ${goal}` : ""}`]),
      ...(ratio === null ? [] : [`llama.cpp ${speed(theirs).toFixed(1)}: ${ratio.toFixed(2)} x, goal 1`]),
    ];
    figures.push({
      name: `${precision}: ${count} streams`,
      value: speed(ours),
      unit: "tokens/s",
      beside: beside.join("; "),
      ...(held || ratio !== null ? { met: (!held || gain >= goal) && (ratio ?? 1) >= 1 } : {}),
    });
    if (count !== 16) continue;
    const share = median(drawn.map((ms, round) => ms / (ours[round] ?? 0)));
    figures.push({
      name: `${precision}: sampling for 16 streams`,
      value: 100 * share,
      unit: "% of a step",
      beside: `${Math.min(...drawn).toFixed(2)} ms; goal ${100 * SAMPLING_GOAL} %`,
      met: share <= SAMPLING_GOAL,
    });
  }
}

/** Milliseconds to draw a token for each of `count` texts, from logits that a model might give. */
function drawing(count: number): number {
  const logits = Float32Array.from({ length: SMOLLM2.vocab }, (_, i) => 4 * Math.sin(i * i));
  const sampler = new Sampler(sampling(1), new Candidates(SMOLLM2.vocab));
  const began = clock();
  for (let i = 0; i < count; i++) sampler.pick(logits, null);
  return clock() - began;
}
