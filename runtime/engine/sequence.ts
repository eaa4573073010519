import type { TokenBytes } from "../../models/tokenizer/token-bytes.js";
import type { Archive } from "../cache/archive.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { SaeReading } from "../contract/features.js";
import type { GenerationEvent, TokenLogprobs } from "../contract/generation.js";
import type { ResidualEdits } from "../graphs/residual-edits.js";
import { BadWords } from "../sampling/bad-words.js";
import type { Candidates } from "../sampling/candidates.js";
import { behindPrompt, Detokenizer } from "../sampling/detokenizer.js";
import { rankOf, tokenLogprobs } from "../sampling/logprobs.js";
import { Sampler } from "../sampling/sampler.js";
import { StopStrings } from "../sampling/stop-strings.js";
import { TokenCounts } from "../sampling/token-counts.js";
import { bytesOf } from "./event-credit.js";
import type { AdmittedSequence } from "./messages.js";

type TokenEvent = Extract<GenerationEvent, { type: "token" }>;

/** Prompt tokens whose readings travel in one event, and about the bytes of them. */
const READ_TOGETHER = 64;
const PIECE_BYTES = 64 << 10;

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

/** What a sequence has of the engine's memory: a row of a cache, and an archive where it retrieves. */
export interface Place {
  readonly cache: LambdaCache;
  row: number;
  readonly archive: Archive | null;
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
  /** With features: the last token's event, and the end if it was the last, until a pass over the token gives its readings. */
  #held: { readonly token: TokenEvent; readonly end: GenerationEvent | null } | null = null;
  readonly #sampler: Sampler;
  readonly #history: TokenCounts | null;
  readonly #badWords: BadWords;
  readonly #text: Detokenizer;
  readonly #stops: StopStrings;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #endTokens: ReadonlySet<number>;

  constructor(
    /** Number of the request, and of the sequence in it. */
    readonly request: number,
    readonly index: number,
    readonly asked: AdmittedSequence,
    readonly edits: ResidualEdits | null,
    readonly context: SequenceContext,
  ) {
    this.lastToken = asked.prompt.at(-1) ?? 0;
    this.#sampler = new Sampler(asked.sampling, context.candidates);
    this.#history = this.#sampler.needsHistory ? new TokenCounts(context.window) : null;
    const counted = asked.prompt.subarray(Math.max(0, asked.prompt.length - context.window));
    if (this.#history) for (const id of counted) this.#history.pushPrompt(id);
    this.#badWords = new BadWords(asked.sampling.badWords ?? []);
    this.#text = new Detokenizer(
      context.tokens,
      behindPrompt(context.tokens, this.lastToken),
      asked.specialText ? "keep" : "skip",
    );
    this.#stops = new StopStrings(asked.stop, "", asked.includeStop);
    this.#stopTokens = new Set(asked.stopTokenIds);
    this.#endTokens = new Set([...asked.stopTokenIds, ...(asked.ignoreEos ? [] : context.eosTokenIds)]);
  }

  /** Prompt tokens that go through the prefill graph: all but the last, whose logits come from the decode graph. */
  get prefillLength(): number {
    return this.asked.prompt.length - 1;
  }

  /** Whether the next token that goes through the decode graph is to be read. */
  get readsNext(): boolean {
    return this.#held !== null || this.asked.features?.prompt === true;
  }

  /** The edits of the prompt tokens that go through the prefill graph. */
  get promptEdits(): ResidualEdits | null {
    return this.asked.editsFrom === "prompt" ? this.edits : null;
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
    const { prompt, promptLogprobs, promptRanks } = this.asked;
    const entries: (TokenLogprobs | null)[] = start === 0 ? [null] : [];
    for (let i = 0; i * vocabSize < logits.length; i++) {
      const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
      const id = prompt[start + i + 1] ?? 0;
      const entry = tokenLogprobs(row, id, promptLogprobs ?? 0);
      entries.push(promptRanks ? { ...entry, rank: rankOf(row, id) } : entry);
    }
    return { type: "prompt", index: this.index, start: start === 0 ? 0 : start + 1, logprobs: entries };
  }

  /** Readings of prompt tokens, from prompt token `start` on; in pieces, so that none is long on its way to the reader. */
  promptFeatures(start: number, readings: readonly (readonly SaeReading[])[]): GenerationEvent[] {
    const events: GenerationEvent[] = [];
    let piece: (readonly SaeReading[])[] = [];
    let bytes = 0;
    for (const [i, reading] of readings.entries()) {
      piece.push(reading);
      bytes += bytesOf(reading);
      if (piece.length < READ_TOGETHER && bytes < PIECE_BYTES && i + 1 < readings.length) continue;
      events.push({ type: "features", index: this.index, start: start + i + 1 - piece.length, readings: piece });
      [piece, bytes] = [[], 0];
    }
    return events;
  }

  /** Takes what was read at the last token, of the prompt or generated. May end the sequence. */
  release(readings: readonly SaeReading[]): GenerationEvent[] {
    const held = this.#held;
    if (held === null) return this.promptFeatures(this.asked.prompt.length - 1, [readings]);
    this.#held = null;
    this.ended = held.end !== null;
    return [{ ...held.token, features: readings }, ...(held.end === null ? [] : [held.end])];
  }

  /**
   * Takes the logits behind the last token: chooses the next one and says what that releases (with features nothing yet:
   * `release` does). @throws NotFiniteLogits
   */
  accept(logits: Float32Array): GenerationEvent[] {
    const { asked, index } = this;
    const mayEnd = this.#generated >= asked.minTokens;
    const forbidden = [...this.#badWords.next(), ...(mayEnd ? [] : this.#endTokens)];
    const token = this.#sampler.pick(logits, this.#history, forbidden);
    const logprobs = asked.logprobs === null ? null : tokenLogprobs(logits, token, asked.logprobs);
    this.#history?.pushOutput(token);
    this.#badWords.push(token);
    this.lastToken = token;
    const seq = this.#generated++;
    const pos = asked.prompt.length + seq;
    const isEnd = this.#endTokens.has(token);
    const piece = isEnd && !asked.includeStop ? "" : this.#text.push(token);
    const { text, matched } = mayEnd ? this.#stops.push(piece) : { text: piece, matched: null };
    const event: TokenEvent = { type: "token", index, seq, pos, tokenId: token, text, logprobs, features: null };
    const end = isEnd
      ? this.#end("stop", this.#stopTokens.has(token) ? token : null)
      : matched !== null
        ? this.#end("stop", matched)
        : this.#generated === asked.maxTokens || pos + 1 >= this.context.maxLength
          ? this.#endOfLength()
          : null;
    if (asked.features !== null) {
      this.#held = { token: event, end };
      return [];
    }
    this.ended = end !== null;
    return end === null ? [event] : [event, end];
  }

  /** The end of a sequence that generates nothing. */
  endWithoutText(): GenerationEvent {
    this.ended = true;
    return this.#end("length", null);
  }

  #endOfLength(): GenerationEvent {
    const { text, matched } = this.#stops.push(this.#text.flush());
    return matched === null ? this.#end("length", null, text) : this.#end("stop", matched, text);
  }

  #end(finishReason: "stop" | "length", stopReason: string | number | null, released = ""): GenerationEvent {
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
