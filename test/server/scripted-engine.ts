import { setImmediate as nextTurn } from "node:timers/promises";
import { InvalidRequest, QueueFull, ShuttingDown } from "../../runtime/errors.js";
import type { Engine, GenerationEvent, ModelCard, SequenceRequest, TokenLogprobs } from "../../runtime/generation.js";

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

export const CARD: ModelCard = {
  id: "org/words",
  created: 1_700_000_000,
  architecture: "llama",
  vocabSize: 1000,
  layers: 2,
  hiddenSize: 8,
  trainedLength: 64,
  window: 32,
  sinks: 4,
  precision: "f32",
  threads: 1,
  bosTokenId: 0,
  eosTokenIds: [1],
  hasTokenizer: true,
  sampling: { temperature: 0.8, topP: 0.95 },
  hooks: [],
  saes: [],
};

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
    encode: async (text) => (text.match(/\s*\S+|\s+$/g) ?? []).map(idOf),
    tokenTexts: (ids) => ids.map((id) => texts[id] ?? ` w${id}`),
    decode: (ids) => engine.tokenTexts(ids).join(""),
    generate(sequences, signal) {
      if (draining) throw new ShuttingDown("The server is shutting down");
      if (running + sequences.length > room) throw new QueueFull("The queue is full");
      engine.requests.push(sequences);
      running += sequences.length;
      return inTurns(sequences, signal);
    },
    describeFeature: async (sae) => {
      throw new InvalidRequest(`there is no SAE '${sae}'`, "sae");
    },
    load: () => ({ running, waiting: 0 }),
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

/** " w100 w101 ..." with the prompt's and its own log-probabilities: token n has -n/1000, its rivals follow it. */
export async function* words(sequence: SequenceRequest, index: number): AsyncGenerator<GenerationEvent> {
  const { prompt, maxTokens, promptLogprobs } = sequence;
  if (promptLogprobs !== null) {
    const logprobs = prompt.map((id, position) => (position === 0 ? null : logprobsOf(id, promptLogprobs)));
    const half = Math.ceil(prompt.length / 2);
    yield { type: "prompt", index, start: 0, logprobs: logprobs.slice(0, half) };
    yield { type: "prompt", index, start: half, logprobs: logprobs.slice(half) };
  }
  const count = maxTokens ?? Number.POSITIVE_INFINITY;
  for (let seq = 0; seq < count; seq++) {
    await nextTurn();
    yield wordEvent(sequence, index, seq);
  }
  yield endEvent(sequence, index, count);
}

export function wordEvent(sequence: SequenceRequest, index: number, seq: number, text?: string): GenerationEvent {
  const tokenId = 100 + (seq % 800);
  const logprobs = sequence.logprobs === null ? null : logprobsOf(tokenId, sequence.logprobs);
  return {
    type: "token",
    index,
    seq,
    pos: sequence.prompt.length + seq,
    tokenId,
    text: text ?? ` w${tokenId}`,
    logprobs,
    features: null,
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
  return { type: "end", index, finishReason, stopReason, text: "", promptTokens, completionTokens };
}

function logprobsOf(tokenId: number, top: number): TokenLogprobs {
  const rival = (place: number) => ({ tokenId: tokenId + place, logprob: -(tokenId + place) / 1000 });
  return { logprob: -tokenId / 1000, top: Array.from({ length: top }, (_, place) => rival(place)) };
}
