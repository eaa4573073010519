import { join } from "node:path";
import { type Plan, type Player, rateOfAll } from "./arrivals.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { someIds } from "./invariance-runs.js";
import { enginePlayer, serverPlayer } from "./players.js";
import { argument, type Figure, median, report } from "./report.js";
import { processorTimeOf } from "./thread-times.js";

/**
 * Tokens per second of 16 streams over HTTP, each on a socket of its own, beside the engine without a server, in turns,
 * each in a process of its own; and beside the server of another build.
 *
 * --rounds 4  --streams 16  --case embedded  --against <dist>: a folder with another build, for the embedded model
 * --processor-time: tokens per second of processor time, of all threads of the engine's or server's process (Linux), for a
 * machine that is shared; what a server does beside the engine then counts as if there were one processor
 */
const ROUNDS = Number(argument("rounds") ?? 4);
const STREAMS = Number(argument("streams") ?? 16);
const GOAL = { served: 0.9, against: 4 };
const against = argument("against");
const shared = process.argv.includes("--processor-time");
const cacheDir = benchFolder("cache");

interface Case {
  readonly name: string;
  readonly model: string;
  readonly precision: "f32" | "q8";
  readonly vocab: number;
  readonly tokens: number;
  readonly against?: string | undefined;
}
const cases: readonly Case[] = [
  { name: "embedded, f32", model: join("models", "default"), precision: "f32", vocab: 4096, tokens: 300, against },
  { name: "135M shape, q8", model: randomLlama(SMOLLM2), precision: "q8", vocab: SMOLLM2.vocab, tokens: 60 },
];

const figures: Figure[] = [];
for (const each of cases) if (each.name.startsWith(argument("case") ?? "")) await measure(each);
report(`${STREAMS} streams over HTTP`, figures, [
  `medians of ${ROUNDS} rounds in turns, ratios round by round; ${shared ? "processor time of all threads" : "tokens counted while all streams run"}`,
]);

async function rate(player: Player, plan: Plan): Promise<number> {
  if (!shared) return rateOfAll(await player.play(plan));
  let tokens = 0;
  const { all } = await processorTimeOf(player.pid, async () => {
    tokens = (await player.play(plan)).reduce((sum, each) => sum + each.tokens.length, 0);
  });
  return (1e6 * tokens) / all;
}

async function measure({ name, model, precision, vocab, tokens, against }: Case): Promise<void> {
  const flags = ["--model", model, "--precision", precision, "--cache-dir", cacheDir];
  const options = { model, precision, cacheDir, parallel: STREAMS, queueLimit: STREAMS, stallTimeoutMs: 60_000 };
  await using alone = await enginePlayer(options);
  await using served = await serverPlayer([...flags, "--parallel", String(STREAMS)]);
  await using other =
    against === undefined ? null : await serverPlayer([...flags, "--parallel", String(STREAMS)], against);
  const players: readonly (Player | null)[] = [alone, served, other];
  const plan: Plan = {
    requests: Array.from({ length: STREAMS }, (_, i) => ({
      body: { prompt: someIds(vocab, i, 16), max_tokens: tokens, ignore_eos: true, seed: i, return_token_ids: true },
    })),
  };
  const rates: number[][] = [[], [], []];
  for (let round = 0; round < ROUNDS; round++)
    for (const i of round % 2 === 0 ? [0, 1, 2] : [2, 1, 0]) {
      const player = players[i];
      if (!player) continue;
      rates[i]?.push(await rate(player, plan));
      process.stderr.write(
        `${name}, round ${round + 1}: ${["engine", "server", "other build"][i]} ${rates[i]?.at(-1)?.toFixed(1)} tokens/s\n`,
      );
    }
  const [own = [], ofServer = [], ofOther = []] = rates;
  const ratio = median(ofServer.map((rate, round) => rate / (own[round] ?? 0)));
  figures.push(
    { name: `${name}: engine alone`, value: median(own), unit: "tokens/s" },
    {
      name: `${name}: over HTTP`,
      value: median(ofServer),
      unit: "tokens/s",
      beside: `${ratio.toFixed(2)} x the engine's, goal ${GOAL.served}`,
      met: ratio >= GOAL.served,
    },
  );
  if (ofOther.length === 0) return;
  const gain = median(ofServer.map((rate, round) => rate / (ofOther[round] ?? 0)));
  figures.push({
    name: `${name}: against the other build`,
    value: gain,
    unit: "x its rate",
    beside: `${median(ofOther).toFixed(1)} tokens/s there; goal ${GOAL.against}`,
    met: gain >= GOAL.against,
  });
}
