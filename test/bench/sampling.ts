import type { SamplingParams } from "../../runtime/contract/generation.js";
import { Tensor } from "../../runtime/ort/tensor.js";
import { Candidates } from "../../runtime/sampling/candidates.js";
import { tokenLogprobs } from "../../runtime/sampling/logprobs.js";
import { Sampler } from "../../runtime/sampling/sampler.js";
import { TokenCounts } from "../../runtime/sampling/token-counts.js";
import { SMOLLM2 } from "./bench-model.js";
import { argument, type Figure, median, processorTime, report } from "./report.js";

/**
 * What it costs to choose a token of SmolLM2's vocabulary: processor time of one pick, by what a request asks for. 16 picks
 * are to take a tenth of a step of 16 rows, which is some 60 ms with weights of 8 bits.
 */
const VOCAB = SMOLLM2.vocab;
const ROWS = 16;
const ROUNDS = Number(argument("rounds") ?? 15);
const GOAL_MS = 0.35;
const HISTORY = 1024;

const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
const logits = Tensor.zeros("float32", [ROWS, VOCAB]);
logits.write(Float32Array.from({ length: ROWS * VOCAB }, () => 3 * normal()));
const received = new Float32Array(ROWS * VOCAB);
logits.read(received);

const history = new TokenCounts(HISTORY);
for (let i = 0; i < HISTORY; i++) history.pushOutput((i * 7919) % 700);

interface Kind {
  readonly name: string;
  readonly params: Partial<SamplingParams>;
  readonly logprobs?: number;
  readonly forbidden?: readonly number[];
}
const penalties = { repetitionPenalty: 1.1, presencePenalty: 0.2, frequencyPenalty: 0.1 };
const allowedTokenIds = Array.from({ length: 200 }, (_, i) => i * 241);
const logitBias = [3, 500, 40_000].map((id) => [id, 2] as const);
const KINDS: readonly Kind[] = [
  { name: "greedy", params: { temperature: 0 } },
  { name: "greedy, logprobs 5", params: { temperature: 0 }, logprobs: 5 },
  { name: "greedy, penalties", params: { temperature: 0, ...penalties } },
  { name: "greedy, 3 ids biased", params: { temperature: 0, logitBias } },
  { name: "greedy, 200 ids allowed", params: { temperature: 0, allowedTokenIds } },
  { name: "greedy, 2 ids forbidden", params: { temperature: 0 }, forbidden: [0, 17] },
  { name: "temperature 0.8", params: { temperature: 0.8 } },
  { name: "temperature 0.8, top_p 0.9", params: { temperature: 0.8, topP: 0.9 } },
  { name: "temperature 1, top_p 0.99", params: { temperature: 1, topP: 0.99 } },
  { name: "temperature 0.8, top_k 40", params: { temperature: 0.8, topK: 40 } },
  { name: "temperature 0.8, min_p 0.05", params: { temperature: 0.8, minP: 0.05 } },
  {
    name: "temperature 0.8, top_p 0.9, penalties, bias, forbidden, logprobs 5",
    params: { temperature: 0.8, topP: 0.9, ...penalties, logitBias },
    forbidden: [0, 17],
    logprobs: 5,
  },
];
const neutral: SamplingParams = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 1,
};

const candidates = new Candidates(VOCAB);
const cases = [
  { name: "logits out of the tensor", step: () => void logits.read(received), ms: [] as number[] },
  ...KINDS.map(({ name, params, logprobs, forbidden = [] }) => {
    const samplers = Array.from({ length: ROWS }, () => new Sampler({ ...neutral, ...params }, candidates));
    const step = (): void => {
      for (const [row, sampler] of samplers.entries()) {
        const own = received.subarray(row * VOCAB, (row + 1) * VOCAB);
        const token = sampler.pick(own, sampler.needsHistory ? history : null, forbidden);
        if (logprobs !== undefined) tokenLogprobs(own, token, logprobs);
      }
    };
    return { name, step, ms: [] as number[] };
  }),
];
for (const { step } of cases) for (let i = 0; i < 5; i++) step();
for (let round = 0; round < ROUNDS; round++)
  for (const { step, ms } of cases) ms.push(processorTime(() => [1, 2, 3].forEach(step)) / 3 / ROWS);

const figures = cases.map(({ name, ms }): Figure => {
  const value = median(ms);
  return { name, value, unit: "ms", beside: `goal ${GOAL_MS}`, met: value <= GOAL_MS };
});
report(`sampling: one token of ${VOCAB.toLocaleString("en")}`, figures, [
  `processor time; medians of ${ROUNDS} rounds of 3 steps of ${ROWS} rows, taken in turns`,
]);
