import { join } from "node:path";
import { type Gaps, gapsWithin, type Plan, type Player } from "./arrivals.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { someIds } from "./invariance-runs.js";
import { serverPlayer } from "./players.js";
import { argument, type Figure, median, report } from "./report.js";

/**
 * What running streams feel of a prompt of 20,000 tokens that comes in, and what a short request feels of 50 long ones, over
 * HTTP, each with and without the others in turns.
 *
 * --rounds 3  --case embedded  --prompt 20000
 */
const ROUNDS = Number(argument("rounds") ?? 3);
const LONG_PROMPT = Number(argument("prompt") ?? 20_000);
const RUNNING = 4;
const LONG_ONES = 50;
const GOAL = { gap: 3, gapMs: 60, first: 4 };
/** Running streams are undisturbed for so long, then the long prompt comes. */
const QUIET_MS = 3000;

interface Case {
  readonly name: string;
  readonly model: string;
  readonly precision: "f32" | "q8";
  readonly vocab: number;
  readonly longPrompt: number;
}
const cases: readonly Case[] = [
  { name: "embedded, f32", model: join("models", "default"), precision: "f32", vocab: 4096, longPrompt: LONG_PROMPT },
  {
    name: "135M shape, q8",
    model: randomLlama(SMOLLM2),
    precision: "q8",
    vocab: SMOLLM2.vocab,
    longPrompt: LONG_PROMPT,
  },
];

const figures: Figure[] = [];
for (const each of cases) {
  if (!each.name.startsWith(argument("case") ?? "")) continue;
  const flags = ["--model", each.model, "--precision", each.precision, "--cache-dir", benchFolder("cache")];
  await using server = await serverPlayer(flags);
  figures.push(...(await besideLongPrompt(each, server)), await amongLongOnes(each, server));
}
report("neighbours: what streams feel of each other", figures, [
  `over HTTP; ${ROUNDS} rounds; gaps of ${RUNNING} running streams, without and with a prompt of ${LONG_PROMPT} tokens that comes in`,
]);

function endless(vocab: number, seed: number, prompt: number) {
  return {
    prompt: someIds(vocab, seed, prompt),
    max_tokens: null,
    ignore_eos: true,
    seed,
    return_token_ids: true,
  };
}

async function besideLongPrompt({ name, vocab, longPrompt }: Case, server: Player): Promise<Figure[]> {
  const plan: Plan = {
    requests: [
      ...Array.from({ length: RUNNING }, (_, i) => ({ body: endless(vocab, i, 32) })),
      { body: endless(vocab, 99, longPrompt), at: QUIET_MS },
    ],
    until: { request: RUNNING, tokens: 1 },
  };
  const rounds: { readonly quiet: Gaps; readonly busy: Gaps; readonly read: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const found = await server.play(plan);
    const [streams, long] = [found.slice(0, RUNNING), found[RUNNING]!];
    // The first third of the quiet time is the streams' own prompts.
    const quiet = gapsWithin(streams, long.sent - (2 * QUIET_MS) / 3, long.sent);
    const busy = gapsWithin(streams, long.sent, long.tokens[0] ?? 0);
    rounds.push({ quiet, busy, read: (long.tokens[0] ?? 0) - long.sent });
    process.stderr.write(
      `${name}: gaps p50 ${quiet.p50.toFixed(1)}, p99 ${quiet.p99.toFixed(1)} ms; beside the prompt ${busy.p50.toFixed(1)}, ${busy.p99.toFixed(1)} ms\n`,
    );
  }
  const of = (value: (round: (typeof rounds)[number]) => number) => median(rounds.map(value));
  const p99 = of(({ busy }) => busy.p99);
  const times = of(({ quiet, busy }) => busy.p99 / quiet.p99);
  return [
    {
      name: `${name}: gap between tokens, p99`,
      value: of(({ quiet }) => quiet.p99),
      unit: "ms",
      beside: `p50 ${of(({ quiet }) => quiet.p50).toFixed(1)} ms`,
    },
    {
      name: `${name}: while ${longPrompt} tokens are read, p99`,
      value: p99,
      unit: "ms",
      beside: `p50 ${of(({ busy }) => busy.p50).toFixed(1)} ms; ${times.toFixed(2)} x without, goal ${GOAL.gap} x or ${GOAL.gapMs} ms; read in ${(of(({ read }) => read) / 1000).toFixed(1)} s`,
      met: times <= GOAL.gap || p99 <= GOAL.gapMs,
    },
  ];
}

async function amongLongOnes({ name, vocab }: Case, server: Player): Promise<Figure> {
  const short = { ...endless(vocab, 7, 8), max_tokens: 8 };
  const alone: Plan = { requests: [{ body: short }], until: { request: 0, tokens: 1 } };
  const among: Plan = {
    requests: [
      ...Array.from({ length: LONG_ONES }, (_, i) => ({ body: endless(vocab, i, 300) })),
      { body: short, at: QUIET_MS },
    ],
    until: { request: LONG_ONES, tokens: 1 },
  };
  const rounds: { readonly own: number; readonly beside: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const first = async (plan: Plan) => {
      const { sent, tokens } = (await server.play(plan)).at(-1)!;
      return (tokens[0] ?? Number.NaN) - sent;
    };
    const [own, beside] = [await first(alone), await first(among)];
    rounds.push({ own, beside });
    process.stderr.write(
      `${name}: first token alone ${own.toFixed(0)} ms, among ${LONG_ONES} long ones ${beside.toFixed(0)} ms\n`,
    );
  }
  const times = median(rounds.map(({ own, beside }) => beside / own));
  return {
    name: `${name}: first token of a short request among ${LONG_ONES} long ones`,
    value: median(rounds.map(({ beside }) => beside)),
    unit: "ms",
    beside: `alone ${median(rounds.map(({ own }) => own)).toFixed(0)} ms: ${times.toFixed(2)} x, goal ${GOAL.first}`,
    met: times < GOAL.first,
  };
}
