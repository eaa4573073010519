import { setImmediate as nextTurn } from "node:timers/promises";
import * as z from "zod";
import { InvalidRequest, QueueFull, ShuttingDown } from "../../runtime/contract/errors.js";
import type { FeatureDescription, FeatureRequest, SaeCard, SaeReading } from "../../runtime/contract/features.js";
import type {
  Engine,
  GenerationEvent,
  ModelCard,
  SequenceRequest,
  TokenLogprobs,
} from "../../runtime/contract/generation.js";

const Messages = z.array(z.object({ role: z.string(), content: z.unknown() }));

/** What a sequence says: its events without the engine's turn-taking. */
export type Script = (sequence: SequenceRequest, index: number, signal: AbortSignal) => AsyncIterable<GenerationEvent>;

export interface ScriptedEngine extends Engine {
  /** Every request that was generated, in order. */
  readonly requests: (readonly SequenceRequest[])[];
  /** Sequences whose script has ended, been left or been aborted. */
  stopped: number;
  /** Events taken by consumers. */
  taken: number;
}

export interface ScriptedOptions {
  readonly card?: Partial<ModelCard>;
  readonly script?: Script;
  /** Requests at once; one more meets QueueFull. */
  readonly room?: number;
}

const EARLY: SaeCard = {
  id: "early",
  hook: "blocks.0.hook_resid_post",
  format: "saelens",
  activation: "relu",
  k: null,
  normalisation: "none",
  dIn: 8,
  dSae: 64,
  precision: "f32",
  modelName: "org/words",
  metadata: { dataset: "words" },
};
const LATE: SaeCard = {
  ...EARLY,
  id: "late",
  hook: "blocks.1.hook_resid_post",
  format: "sparsify",
  activation: "top-k",
  k: 6,
  dSae: 128,
  precision: "q8",
  modelName: null,
  metadata: {},
};

export const CARD: ModelCard = {
  id: "org/words",
  created: 1_700_000_000,
  architecture: "llama",
  vocabSize: 1000,
  layers: 2,
  hiddenSize: 8,
  trainedLength: 64,
  longest: null,
  window: 32,
  sinks: 4,
  parallel: 4,
  archiveTokens: 4096,
  precision: "f32",
  kv: "f32",
  threads: 1,
  device: "cpu",
  hardware: "",
  bosTokenId: 0,
  frame: { before: [0], after: [] },
  eosTokenIds: [1],
  hasTokenizer: true,
  hasChatTemplate: true,
  sampling: { temperature: 0.8, topP: 0.95 },
  maxNewTokens: null,
  hooks: ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"],
  saes: [EARLY, LATE],
};

/** What the engine says ends an assistant's turn. */
export const END_OF_TURN = 999;

/** An engine whose tokens are words: "Once upon a" is [2, 3, 4] as it is first met, and it answers " w0 w1 w2 ...". */
export function scriptedEngine({ card = {}, script = words, room = 1000 }: ScriptedOptions = {}): ScriptedEngine {
  const texts = ["<bos>", "<eos>"];
  let running = 0;
  let draining = false;
  const idOf = (text: string) => (texts.includes(text) ? texts.indexOf(text) : texts.push(text) - 1);
  const engine: ScriptedEngine = {
    card: { ...CARD, ...card },
    requests: [],
    stopped: 0,
    taken: 0,
    encode: async (text) => Int32Array.from(text.match(/\s*\S+|\s+$/g) ?? [], idOf),
    async chatPrompt({ messages, addGenerationPrompt }, signal) {
      signal.throwIfAborted();
      const turns = Messages.parse(JSON.parse(messages)).map(({ role, content }) => ` ${role}: ${content}`);
      const text = [...turns, ...(addGenerationPrompt ? [" assistant:"] : [])].join("");
      return { ids: await engine.encode(text), turnEndIds: [END_OF_TURN] };
    },
    tokenTexts: (ids) => Array.from(ids, (id) => texts[id] ?? ` w${id}`),
    decode: (ids) => engine.tokenTexts(ids).join(""),
    generate(sequences, signal) {
      if (draining) throw new ShuttingDown("The server is shutting down");
      if (running + sequences.length > room) throw new QueueFull("The queue is full");
      engine.requests.push(sequences);
      running += sequences.length;
      return inTurns(sequences, signal);
    },
    describeFeature: async (sae, feature, top) => description(engine.card, sae, feature, top),
    failure: null,
    load: () => ({ running, waiting: 0 }),
    counts: { prefixBytes: 0, saturated: 0 },
    async drain() {
      draining = true;
    },
    async close() {},
  };
  async function* inTurns(sequences: readonly SequenceRequest[], signal: AbortSignal): AsyncGenerator<GenerationEvent> {
    let live = sequences.map((sequence, index) => script(sequence, index, signal)[Symbol.asyncIterator]());
    try {
      while (live.length > 0 && !signal.aborted) {
        for (const member of [...live]) {
          const { done, value } = await member.next();
          if (done) live = live.filter((other) => other !== member);
          else {
            engine.taken += 1;
            yield value;
          }
        }
      }
    } finally {
      running -= sequences.length;
      engine.stopped += sequences.length;
    }
  }
  return engine;
}

/** " w100 w101 ..." with the prompt's and its own log-probabilities (token n has -n/1000, its rivals follow it) and readings. */
export async function* words(sequence: SequenceRequest, index: number): AsyncGenerator<GenerationEvent> {
  const { prompt, maxTokens, promptLogprobs, features } = sequence;
  const logprobs = Array.from(prompt, (id, pos) => (pos === 0 ? null : logprobsOf(id, promptLogprobs ?? 0)));
  const half = Math.ceil(prompt.length / 2);
  for (const [start, end] of [[0, half] as const, [half, prompt.length] as const]) {
    if (promptLogprobs !== null) yield { type: "prompt", index, start, logprobs: logprobs.slice(start, end) };
    if (features?.prompt) {
      const readings = Array.from(prompt.slice(start, end), (id, i) => readingsOf(features, id, start + i));
      yield { type: "features", index, start, readings };
    }
  }
  const count = maxTokens ?? Number.POSITIVE_INFINITY;
  for (let seq = 0; seq < count; seq++) {
    await nextTurn();
    yield wordEvent(sequence, index, seq);
  }
  yield endEvent(sequence, index, count);
}

/** One token, of probability 0. */
export async function* impossible(sequence: SequenceRequest, index: number): AsyncGenerator<GenerationEvent> {
  const token = wordEvent(sequence, index, 0);
  yield token.type === "token" ? { ...token, logprobs: { logprob: Number.NEGATIVE_INFINITY, top: [] } } : token;
  yield endEvent(sequence, index, 1);
}

export function wordEvent(sequence: SequenceRequest, index: number, seq: number, text?: string): GenerationEvent {
  const tokenId = 100 + (seq % 800);
  const pos = sequence.prompt.length + seq;
  return {
    type: "token",
    index,
    seq,
    pos,
    tokenId,
    text: text ?? ` w${tokenId}`,
    logprobs: sequence.logprobs === null ? null : logprobsOf(tokenId, sequence.logprobs),
    features: sequence.features === null ? null : readingsOf(sequence.features, tokenId, pos),
  };
}

/** Of token n: n % 7 features, unless a top-k allows fewer; so BOS has none, and nothing to divide by. */
export function readingsOf({ saes, top, activation }: FeatureRequest, tokenId: number, pos: number): SaeReading[] {
  return saes.map((sae) => {
    const { id, dSae } = CARD.saes.find((card) => card.id === sae) ?? EARLY;
    const offset = id === LATE.id ? 1 : 0;
    const l0 = Math.min(tokenId % 7, activation.kind === "top-k" ? activation.k : dSae);
    const indices = Uint32Array.from({ length: l0 }, (_, rank) => (tokenId * 31 + rank * 5 + offset) % dSae);
    const values = Float32Array.from({ length: l0 }, (_, rank) => ((l0 - rank) * (1 + tokenId + pos / 8)) / 10);
    const z = 1 + tokenId / 10 + pos / 100;
    const f = Math.hypot(...values);
    return {
      sae,
      l0,
      z,
      f,
      epsLbo: f === 0 ? null : Math.abs(z ** 2 - f ** 2) / ((dSae - 1) * f ** 2),
      mse: 1 / (3 + tokenId),
      indices: indices.slice(0, top),
      values: values.slice(0, top),
    };
  });
}

function description(card: ModelCard, sae: string, feature: number, top: number): FeatureDescription {
  const dSae = card.saes.find(({ id }) => id === sae)?.dSae;
  if (dSae === undefined) throw new InvalidRequest(`there is no SAE '${sae}'`, "sae");
  if (feature >= dSae) throw new InvalidRequest(`there is no feature ${feature}`, "feature");
  const places = Array.from({ length: top }, (_, place) => place);
  return {
    sae,
    feature,
    decoderNorm: 1 + feature / 10,
    topTokens: places.map((place) => ({ tokenId: 100 + place, logit: (top - place) / 10 })),
    bottomTokens: places.map((place) => ({ tokenId: 500 + place, logit: (place - top) / 10 })),
    nearest: places
      .slice(0, dSae - 1)
      .map((place) => ({ feature: (feature + 1 + place) % dSae, cosine: 1 / (2 + place) })),
  };
}

export function endEvent(
  sequence: SequenceRequest,
  index: number,
  completionTokens: number,
  finishReason: "stop" | "length" = "length",
  stopReason: string | number | null = null,
): GenerationEvent {
  const promptTokens = sequence.prompt.length;
  return { type: "end", index, finishReason, stopReason, text: "", promptTokens, completionTokens, cachedTokens: 0 };
}

function logprobsOf(tokenId: number, top: number): TokenLogprobs {
  const rival = (place: number) => ({ tokenId: tokenId + place, logprob: -(tokenId + place) / 1000 });
  return { logprob: -tokenId / 1000, top: Array.from({ length: top }, (_, place) => rival(place)) };
}
