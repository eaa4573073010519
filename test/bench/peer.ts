import { availableParallelism } from "node:os";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import { benchFolder, SMOLLM2 } from "./bench-model.js";
import { type LlamaCpp, openLlamaCpp } from "./llama-cpp.js";
import { PlannedChunks } from "./planned-chunks.js";
import { type GgufTypes, randomGguf } from "./random-gguf.js";
import { argument, type Figure, median, processorClock, report } from "./report.js";
import { servedRunner } from "./served-runner.js";

/**
 * SmolLM2-135M's shape beside llama.cpp: the same GGUF file, threads and context, in turns within one run. Decoding goes on
 * from a context that is full; prefill begins with an empty one.
 *
 * --precision int8  --kv f32  --rounds 6  --threads 2
 * --processor-time: that of the process instead of the clock's, on one thread, for a machine that is shared
 */
const CONTEXT = 1024;
const ROUNDS = Number(argument("rounds") ?? 6);
const STEPS = 24;
const PROMPT = 512;

interface Contest {
  readonly precision: AskedPrecision;
  readonly types: GgufTypes;
  /** Of llama.cpp's tokens a second. */
  readonly goals: { readonly decode: number; readonly prefill: number };
}
const CONTESTS: readonly Contest[] = [
  { precision: "f32", types: { layers: "F32", embedding: "F32" }, goals: { decode: 2, prefill: 1 } },
  { precision: "q8-block", types: { layers: "Q8_0", embedding: "Q8_0" }, goals: { decode: 1.5, prefill: 1.5 } },
  { precision: "int8", types: { layers: "Q8_0", embedding: "Q8_0" }, goals: { decode: 1.5, prefill: 1.5 } },
  { precision: "q4", types: { layers: "Q4_1", embedding: "Q8_0" }, goals: { decode: 1.8, prefill: 1.2 } },
];

interface Player {
  /** Milliseconds per token. */
  decode(steps: number): Promise<number>;
  prefill(): Promise<number>;
}

const shared = process.argv.includes("--processor-time");
const clock = shared ? processorClock : () => performance.now();
const threads = shared ? 1 : Number(argument("threads") ?? availableParallelism());
const only = argument("precision");
const figures: Figure[] = [];
const ids = Array.from({ length: CONTEXT }, (_, i) => 257 + ((i * 7919) % (SMOLLM2.vocab - 257)));

const contests = CONTESTS.filter(({ precision }) => only === undefined || precision === only);
if (contests.length === 0)
  throw new RangeError(`--precision must be one of ${CONTESTS.map(({ precision }) => precision).join(", ")}`);
for (const contest of contests) {
  const path = randomGguf(SMOLLM2, contest.types);
  await using peer = await openLlamaCpp(path, { threads, context: 2 * CONTEXT });
  using runner = await servedRunner(
    { path, precision: contest.precision, cacheRoot: benchFolder("cache") },
    { window: CONTEXT, threads },
  );
  const [ours, theirs] = [playRunner(runner), await playLlamaCpp(peer)];
  const times = { decode: [[], []] as [number[], number[]], prefill: [[], []] as [number[], number[]] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, player] of [ours, theirs].entries()) {
      times.decode[i]?.push(await player.decode(STEPS));
      times.prefill[i]?.push(await player.prefill());
    }
  }
  compare(`${contest.precision}: decode, ${CONTEXT} tokens of context`, times.decode, contest.goals.decode);
  compare(`${contest.precision}: prefill, ${PROMPT} tokens`, times.prefill, contest.goals.prefill);
}
report("beside llama.cpp: SmolLM2-135M shape, random weights", figures, [
  `${threads} threads, ${shared ? "processor time" : "wall clock"}; medians of ${ROUNDS} rounds taken in turns; ratios round by round`,
  "4 bit: Q4_1 layers, Q8_0 embedding and head, as published; 8 bit: all Q8_0; keys and values f16 there, here as served: 8 bits where weights have no more",
]);

function playRunner(runner: Runner): Player {
  const chunks = new PlannedChunks(runner.model, CONTEXT, runner.kv);
  const open = () => {
    const cache = runner.openCache({ window: CONTEXT, sinks: 10 });
    return { cache, row: cache.allocate() };
  };
  const fill = ({ cache, row }: ReturnType<typeof open>, tokens: readonly number[]) => {
    for (let start = 0; start < tokens.length; ) {
      const chunk = tokens.slice(start, start + chunks.next(start, tokens.length - start));
      const began = clock();
      runner.prefill(cache, row, chunk);
      chunks.measured(chunk.length, clock() - began);
      start += chunk.length;
    }
  };
  const full = open();
  fill(full, ids);
  let token = 257;
  return {
    async decode(steps) {
      const began = clock();
      for (let i = 0; i < steps; i++) token = largest(runner.decode(full.cache, full.row, [token]));
      return (clock() - began) / steps;
    },
    async prefill() {
      const place = open();
      const began = clock();
      fill(place, ids.slice(0, PROMPT));
      const ms = (clock() - began) / PROMPT;
      runner.closeCache(place.cache);
      return ms;
    },
  };
}

async function playLlamaCpp(peer: LlamaCpp): Promise<Player> {
  const [full, empty] = [await peer.sequence(), await peer.sequence()];
  await full.fill(ids);
  return {
    decode: (steps) => full.decode(257, steps, clock),
    async prefill() {
      await empty.clear();
      const began = clock();
      await empty.fill(ids.slice(0, PROMPT));
      return (clock() - began) / PROMPT;
    },
  };
}

/** @param times ours and theirs, ms per token, round by round */
function compare(name: string, [ours, theirs]: readonly [number[], number[]], goal: number): void {
  const ratio = median(ours.map((ms, round) => (theirs[round] ?? 0) / ms));
  figures.push({
    name,
    value: 1000 / median(ours),
    unit: "tokens/s",
    beside: `llama.cpp ${(1000 / median(theirs)).toFixed(1)}: ${ratio.toFixed(2)} x, goal ${goal} x`,
    met: ratio >= goal,
  });
}

function largest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] ?? 0) > (logits[best] ?? 0)) best = i;
  return best;
}
