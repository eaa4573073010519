import type { TokenBytes } from "../models/token-bytes.js";
import type { Candidates } from "./candidates.js";
import { Detokenizer } from "./detokenizer.js";
import type { GenerationEvent, TokenLogprobs } from "./generation.js";
import type { LambdaCache } from "./lambda-cache.js";
import { tokenLogprobs } from "./logprobs.js";
import type { AdmittedSequence } from "./messages.js";
import { Sampler } from "./sampler.js";
import { StopStrings } from "./stop-strings.js";
import { TokenCounts } from "./token-counts.js";

/** What sequences of one model need besides their requests. */
export interface SequenceContext {
  readonly eosTokenIds: readonly number[];
  /** W of the sequence: penalties count as many tokens. */
  readonly window: number;
  /** The sequence ends here at the latest ("length"). */
  readonly maxLength: number;
  readonly tokens: TokenBytes | null;
  readonly candidates: Candidates;
}

/** A row of a cache that belongs to a sequence. */
export interface Place {
  readonly cache: LambdaCache;
  row: number;
}

/** The state of one text being generated: which tokens it has, what was released of it, and whether it has ended. */
export class Sequence {
  place: Place | null = null;
  /** Prompt tokens whose keys are in the cache. */
  prefilled = 0;
  ended = false;
  /** The token that the next decode step takes. */
  lastToken: number;
  #generated = 0;
  readonly #sampler: Sampler;
  readonly #history: TokenCounts | null;
  readonly #text: Detokenizer;
  readonly #stops: StopStrings;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #endTokens: ReadonlySet<number>;

  constructor(
    /** Number of the request, and of the sequence in it. */
    readonly request: number,
    readonly index: number,
    readonly asked: AdmittedSequence,
    readonly context: SequenceContext,
  ) {
    this.lastToken = asked.prompt.at(-1) ?? 0;
    this.#sampler = new Sampler(asked.sampling, context.candidates);
    this.#history = this.#sampler.needsHistory ? new TokenCounts(context.window) : null;
    const counted = asked.prompt.subarray(Math.max(0, asked.prompt.length - context.window));
    if (this.#history) for (const id of counted) this.#history.pushPrompt(id);
    this.#text = new Detokenizer(context.tokens);
    this.#stops = new StopStrings(asked.stop);
    this.#stopTokens = new Set(asked.stopTokenIds);
    this.#endTokens = new Set([...asked.stopTokenIds, ...(asked.ignoreEos ? [] : context.eosTokenIds)]);
  }

  /** Prompt tokens that go through the prefill graph: all but the last, whose logits come from the decode graph. */
  get prefillLength(): number {
    return this.asked.prompt.length - 1;
  }

  /** Whether the same request must give the same text again. */
  get repeatable(): boolean {
    return this.asked.sampling.seed !== undefined || this.asked.sampling.temperature === 0;
  }

  /** Whether the prompt is all that was asked for. */
  get promptOnly(): boolean {
    return this.asked.maxTokens === 0;
  }

  /**
   * Log-probabilities of the prompt tokens after a chunk that began at prompt token `start`; logits [tokens, vocab].
   * @throws NotFiniteLogits
   */
  promptEvent(start: number, logits: Float32Array, vocabSize: number): GenerationEvent {
    const { prompt, promptLogprobs } = this.asked;
    const entries: (TokenLogprobs | null)[] = start === 0 ? [null] : [];
    for (let i = 0; i * vocabSize < logits.length; i++) {
      entries.push(
        tokenLogprobs(
          logits.subarray(i * vocabSize, (i + 1) * vocabSize),
          prompt[start + i + 1] ?? 0,
          promptLogprobs ?? 0,
        ),
      );
    }
    return { type: "prompt", index: this.index, start: start === 0 ? 0 : start + 1, logprobs: entries };
  }

  /** Takes the logits behind the last token: chooses the next one and says what that releases. @throws NotFiniteLogits */
  accept(logits: Float32Array): GenerationEvent[] {
    const { asked, index } = this;
    const mayEnd = this.#generated >= asked.minTokens;
    const token = this.#sampler.pick(logits, this.#history, mayEnd ? [] : [...this.#endTokens]);
    const logprobs = asked.logprobs === null ? null : tokenLogprobs(logits, token, asked.logprobs);
    this.#history?.pushOutput(token);
    this.lastToken = token;
    const seq = this.#generated++;
    const pos = asked.prompt.length + seq;
    const isEnd = this.#endTokens.has(token);
    const piece = isEnd ? "" : this.#text.push(token);
    const { text, matched } = mayEnd ? this.#stops.push(piece) : { text: piece, matched: null };
    const event: GenerationEvent = { type: "token", index, seq, pos, tokenId: token, text, logprobs, features: null };
    if (isEnd) return [event, this.#end("stop", this.#stopTokens.has(token) ? token : null)];
    if (matched !== null) return [event, this.#end("stop", matched)];
    const full = this.#generated === asked.maxTokens || pos + 1 >= this.context.maxLength;
    return full ? [event, this.#endOfLength()] : [event];
  }

  /** The end of a sequence that generates nothing. */
  endWithoutText(): GenerationEvent {
    return this.#end("length", null);
  }

  #endOfLength(): GenerationEvent {
    const { text, matched } = this.#stops.push(this.#text.flush());
    return matched === null ? this.#end("length", null, text) : this.#end("stop", matched, text);
  }

  #end(finishReason: "stop" | "length", stopReason: string | number | null, released = ""): GenerationEvent {
    this.ended = true;
    const rest = typeof stopReason === "string" ? "" : this.#stops.push(this.#text.flush()).text + this.#stops.flush();
    return {
      type: "end",
      index: this.index,
      finishReason,
      stopReason,
      text: released + rest,
      promptTokens: this.asked.prompt.length,
      completionTokens: this.#generated,
    };
  }
}
