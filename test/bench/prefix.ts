import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import { modelIdentity } from "../../runtime/cache/model-identity.js";
import { PrefixStore } from "../../runtime/cache/prefix-store.js";
import { DEFAULT_SINKS, LARGEST_DEFAULT_WINDOW } from "../../runtime/contract/default-geometry.js";
import type { SequenceRequest } from "../../runtime/contract/generation.js";
import { LocalEngine } from "../../runtime/engine/engine.js";
import { promptGrid } from "../../runtime/engine/prompt-grid.js";
import { PromptPrefix } from "../../runtime/engine/prompt-prefix.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { benchFolder, randomLlama, SMOLLM2 } from "./bench-model.js";
import { someIds } from "./invariance-runs.js";
import { argument, type Figure, median, processorTime, report } from "./report.js";

/**
 * What prompts cost that begin as others did: a prompt the second time, the fifth turn of a chat, and what is left in the
 * store by a prompt that nobody begins like.
 *
 * --rounds 3  --prompt 4000  --case embedded  --model <path>: in place of SmolLM2's shape with random weights; also LAMBDATAP_TEST_MODEL
 */
const ROUNDS = Number(argument("rounds") ?? 3);
const PROMPT = Number(argument("prompt") ?? 4000);
const GOAL = { again: 0.1, capture: 0.01 };
/** Bytes of a store that no bench fills. */
const ROOMY = 8e9;
/** Tokens of a chat: what it begins with, a question and an answer. */
const CHAT = { system: 600, question: 60, answer: 120, turns: 5 };
const BLOCK = 64;

const named = argument("model") ?? process.env.LAMBDATAP_TEST_MODEL;
const cases = [
  { name: "embedded", model: join("models", "default") },
  { name: named === undefined ? "135M shape" : "SmolLM2", model: named ?? randomLlama(SMOLLM2) },
];

const figures: Figure[] = [];
for (const { name, model } of cases) {
  if (!name.startsWith(argument("case") ?? "")) continue;
  const start = (more: object) =>
    LocalEngine.start({
      ...{ model, precision: "auto", cacheDir: benchFolder("cache"), saes: [], spin: false },
      ...{ parallel: 1, queueLimit: 0, stallTimeoutMs: 60_000, ...more },
    });
  const engine = await start({});
  figures.push(await secondTime(name, engine), ...(await fifthTurn(name, engine)));
  await engine.close();
  figures.push(...(await capture(name, model)));
}
report("prompts that begin alike", figures, [
  `an engine in this process, without HTTP; medians of ${ROUNDS} rounds; threads that do not spin`,
  "what is left: processor time of one thread",
  `a chat of ${CHAT.system} tokens, then questions of ${CHAT.question} and answers of ${CHAT.answer}`,
]);

interface Answer {
  /** Until the first token came, ms. */
  readonly first: number;
  readonly cached: number;
  readonly ids: readonly number[];
}

async function ask(engine: LocalEngine, prompt: readonly number[], maxTokens: number, salt?: string): Promise<Answer> {
  const request: SequenceRequest = {
    ...{ prompt: Int32Array.from(prompt), maxTokens, minTokens: 0, ignoreEos: true, stopTokenIds: [], stop: [] },
    sampling: {
      ...{ temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
      logitBias: [],
    },
    ...{ logprobs: null, promptLogprobs: null, lambda: {}, features: null, edits: [], editsFrom: "generation" },
    cacheSalt: salt,
  };
  const began = performance.now();
  const events = engine.generate([request], new AbortController().signal);
  let first = 0;
  let cached = 0;
  const ids: number[] = [];
  for await (const event of events) {
    if (event.type === "error") throw new Error(event.error.message);
    if (event.type === "token" && ids.push(event.tokenId) === 1) first = performance.now() - began;
    if (event.type === "end") cached = event.cachedTokens;
  }
  return { first, cached, ids };
}

async function secondTime(name: string, engine: LocalEngine): Promise<Figure> {
  const rounds: { readonly anew: number; readonly again: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const prompt = someIds(engine.card.vocabSize, round, PROMPT);
    const [anew, again] = [await ask(engine, prompt, 1), await ask(engine, prompt, 1)];
    if (anew.cached !== 0 || again.cached < PROMPT - 1 - BLOCK) throw new Error(`${again.cached} tokens were kept`);
    rounds.push({ anew: anew.first, again: again.first });
  }
  const share = median(rounds.map(({ anew, again }) => again / anew));
  return {
    name: `${name}: first token of a prompt of ${PROMPT} tokens, the second time`,
    value: median(rounds.map(({ again }) => again)),
    unit: "ms",
    beside: `the first time ${median(rounds.map(({ anew }) => anew)).toFixed(0)} ms: ${share.toFixed(4)} x, goal ${GOAL.again}`,
    met: share <= GOAL.again,
  };
}

/** Each turn also with a salt of its own, so that all of it is read. */
async function fifthTurn(name: string, engine: LocalEngine): Promise<Figure[]> {
  const { vocabSize } = engine.card;
  const rounds: { readonly anew: number; readonly reused: number; readonly read: number; readonly fresh: number }[] =
    [];
  for (let round = 0; round < ROUNDS; round++) {
    let prompt = someIds(vocabSize, 100 + round, CHAT.system + CHAT.question);
    let known = 0;
    for (let turn = 1; turn <= CHAT.turns; turn++) {
      const answer = await ask(engine, prompt, CHAT.answer);
      const fresh = prompt.length - known;
      if (turn === CHAT.turns) {
        const anew = await ask(engine, prompt, 1, `${round}`);
        const read = prompt.length - answer.cached;
        rounds.push({ anew: anew.first, reused: answer.first, read, fresh });
      }
      known = prompt.length - 1;
      prompt = [...prompt, ...answer.ids, ...someIds(vocabSize, 1000 * round + turn, CHAT.question)];
    }
  }
  const of = (value: (round: (typeof rounds)[number]) => number) => median(rounds.map(value));
  const [read, fresh] = [of((round) => round.read), of((round) => round.fresh)];
  return [
    {
      name: `${name}: tokens read for a chat's turn number ${CHAT.turns}`,
      value: read,
      unit: "",
      beside: `new since the turn before ${fresh}, and less than a block of ${BLOCK}`,
      met: read < fresh + BLOCK,
    },
    {
      name: `${name}: its first token`,
      value: of(({ reused }) => reused),
      unit: "ms",
      beside: `all of it read ${of(({ anew }) => anew).toFixed(0)} ms: ${of(({ anew, reused }) => reused / anew).toFixed(3)} x`,
    },
  ];
}

/** Processor time of one thread: reading a prompt, and leaving it in a store that grows, or takes the room of another prompt. */
async function capture(name: string, path: string): Promise<Figure[]> {
  const model = await compileModel({ path, precision: "auto", cacheRoot: benchFolder("cache") });
  const { shape } = model;
  const window = Math.min(shape.trainedLength, LARGEST_DEFAULT_WINDOW);
  const geometry = { window, sinks: DEFAULT_SINKS };
  using runner = new Runner(model, { window, threads: 1, spin: false });
  const grid = promptGrid(model, true, window, runner.kv);
  const reach = Math.max(...shape.geometries.map((each) => (each.window === "lambda" ? window : each.window)));
  const share = (store: PrefixStore, seed: number): number => {
    const ids = Int32Array.from(someIds(shape.vocabSize, seed, PROMPT));
    const source = { model: modelIdentity(model, window), geometry, edits: [], salt: undefined };
    const prefix = new PromptPrefix({ ...grid, ...source, store, ids, reach });
    const cache = runner.openCache(geometry);
    const row = cache.allocate();
    const spent = { reading: 0, keeping: processorTime(() => prefix.look()) };
    for (let at = 0; at < PROMPT; at += grid.grid) {
      const chunk = ids.subarray(at, at + grid.grid);
      spent.reading += processorTime(() => runner.prefill(cache, row, chunk));
      spent.keeping += processorTime(() => prefix.keep(cache, row, at, chunk.length));
    }
    runner.closeCache(cache);
    return spent.keeping / spent.reading;
  };
  const growing = new PrefixStore(ROOMY);
  share(growing, 400);
  const full = new PrefixStore(growing.bytes);
  share(full, 401);
  return [
    { store: growing, kind: "that grows" },
    { store: full, kind: "that is full" },
  ].map(({ store, kind }, i) => {
    const value = median(Array.from({ length: ROUNDS }, (_, round) => share(store, 500 + 2 * round + i)));
    return {
      name: `${name}: leaving ${PROMPT} tokens in a store ${kind}`,
      value: 100 * value,
      unit: "% of reading them",
      beside: `goal ${100 * GOAL.capture} %; ${(full.capacity / 1e6).toFixed(0)} MB`,
      met: value <= GOAL.capture,
    };
  });
}
