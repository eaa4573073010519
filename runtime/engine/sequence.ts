import type { TokenBytes } from "../../models/tokenizer/token-bytes.js";
import type { Archive } from "../cache/archive.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { SaeReading } from "../contract/features.js";
import type { GenerationEvent, TokenLogprobs } from "../contract/generation.js";
import type { ResidualEdits } from "../graphs/residual-edits.js";
import type { Candidates } from "../sampling/candidates.js";
import { Detokenizer } from "../sampling/detokenizer.js";
import { rankOf, tokenLogprobs } from "../sampling/logprobs.js";
import { StopStrings } from "../sampling/stop-strings.js";
import { TokenChooser } from "../sampling/token-chooser.js";
import { bytesOf } from "./event-credit.js";
import type { AskedSequence, EndEvent, HeldToken, SequenceState, TokenEvent } from "./sequence-state.js";

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
  prefilled: number;
  /** Prompt tokens that were not computed for this request, because others began alike. */
  cachedTokens: number;
  ended = false;
  /** The token that the next decode step takes. */
  lastToken: number;
  readonly asked: AskedSequence;
  readonly promptLength: number;
  /** The prompt's end, from its token `#promptStart` on. */
  readonly #prompt: Int32Array<ArrayBuffer>;
  readonly #promptStart: number;
  #generated: number;
  /** With features: the last token's event, and the end if it was the last, until a pass over the token gives its readings. */
  #held: HeldToken | null;
  readonly #chooser: TokenChooser;
  readonly #text: Detokenizer;
  readonly #stops: StopStrings;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #endTokens: ReadonlySet<number>;

  /**
   * @param state where it begins (`firstState`), or where another one of the same context stood: it goes on as that one would have
   * @param edits those of `state.asked`
   */
  constructor(
    /** Number of the request, and of the sequence in it. */
    readonly request: number,
    readonly index: number,
    state: SequenceState,
    readonly edits: ResidualEdits | null,
    readonly context: SequenceContext,
  ) {
    const { asked, held } = state;
    this.asked = asked;
    this.promptLength = state.promptLength;
    this.#prompt = state.prompt;
    this.#promptStart = state.prefilled;
    this.prefilled = state.prefilled;
    this.cachedTokens = state.cachedTokens;
    this.lastToken = state.lastToken;
    this.#generated = state.generated;
    this.#held = held && { token: { ...held.token, index }, end: held.end && { ...held.end, index } };
    this.#chooser = new TokenChooser(asked.sampling, context.candidates, context.window, state.chooser);
    this.#text = new Detokenizer(context.tokens, state.text, asked.specialText ? "keep" : "skip");
    this.#stops = new StopStrings(asked.stop, asked.includeStop, state.stops);
    this.#stopTokens = new Set(asked.stopTokenIds);
    this.#endTokens = new Set([...asked.stopTokenIds, ...(asked.ignoreEos ? [] : context.eosTokenIds)]);
  }

  /** Where it stands between two steps; the keys and values that belong to it are its row's. */
  state(): SequenceState {
    return {
      asked: this.asked,
      promptLength: this.promptLength,
      prompt: this.promptIds(this.prefilled, this.promptLength).slice(),
      prefilled: this.prefilled,
      cachedTokens: this.cachedTokens,
      lastToken: this.lastToken,
      generated: this.#generated,
      held: this.#held,
      chooser: this.#chooser.state(),
      text: this.#text.state(),
      stops: this.#stops.state(),
    };
  }

  /** The ids of prompt tokens [start, end), none of them before those that are prefilled. */
  promptIds(start: number, end: number): Int32Array<ArrayBuffer> {
    return this.#prompt.subarray(start - this.#promptStart, end - this.#promptStart);
  }

  /** Prompt tokens that go through the prefill graph: all but the last, whose logits come from the decode graph. */
  get prefillLength(): number {
    return this.promptLength - 1;
  }

  /** Whether the next token that goes through the decode graph is to be read. */
  get readsNext(): boolean {
    return this.#held !== null || this.asked.features?.prompt === true;
  }

  /** The edits of the prompt tokens that go through the prefill graph. */
  get promptEdits(): ResidualEdits | null {
    return this.asked.editsFrom === "prompt" ? this.edits : null;
  }

  /** Whether the prompt is all that was asked for. */
  get promptOnly(): boolean {
    return this.asked.maxTokens === 0;
  }

  /** What a prompt of one token says of itself, before anything else of it is told. */
  opening(): GenerationEvent[] {
    const isNew = this.prefillLength === 0 && this.#generated === 0;
    if (!isNew || this.asked.promptLogprobs === null) return [];
    return [{ type: "prompt", index: this.index, start: 0, logprobs: [null] }];
  }

  /**
   * What a chunk of the prompt says that began at prompt token `start`.
   * @param logits [tokens, vocab], empty where nobody wants them
   * @param readings of the chunk's tokens, empty likewise
   * @throws NotFiniteLogits
   */
  promptEvents(chunk: {
    readonly start: number;
    readonly tokens: number;
    readonly logits: Float32Array;
    readonly readings: readonly (readonly SaeReading[])[];
  }): GenerationEvent[] {
    const { start, tokens, logits, readings } = chunk;
    return [
      ...(logits.length === 0 ? [] : [this.promptEvent(start, logits, logits.length / tokens)]),
      ...this.promptFeatures(start, readings),
    ];
  }

  /**
   * Log-probabilities of the prompt tokens after a chunk that began at prompt token `start`; logits [tokens, vocab].
   * @throws NotFiniteLogits
   */
  promptEvent(start: number, logits: Float32Array, vocabSize: number): GenerationEvent {
    const { promptLogprobs, promptRanks } = this.asked;
    const next = this.promptIds(start + 1, this.promptLength);
    const entries: (TokenLogprobs | null)[] = start === 0 ? [null] : [];
    for (let i = 0; i * vocabSize < logits.length; i++) {
      const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
      const id = next[i] ?? 0;
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
    if (held === null) return this.promptFeatures(this.prefillLength, [readings]);
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
    const token = this.#chooser.next(logits, mayEnd ? [] : this.#endTokens);
    const logprobs = asked.logprobs === null ? null : tokenLogprobs(logits, token, asked.logprobs);
    this.lastToken = token;
    const seq = this.#generated++;
    const pos = this.promptLength + seq;
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
  endWithoutText(): EndEvent {
    this.ended = true;
    return this.#end("length", null);
  }

  #endOfLength(): EndEvent {
    const { text, matched } = this.#stops.push(this.#text.flush());
    return matched === null ? this.#end("length", null, text) : this.#end("stop", matched, text);
  }

  #end(finishReason: "stop" | "length", stopReason: string | number | null, released = ""): EndEvent {
    const rest = typeof stopReason === "string" ? "" : this.#stops.push(this.#text.flush()).text + this.#stops.flush();
    return {
      type: "end",
      index: this.index,
      finishReason,
      stopReason,
      text: released + rest,
      promptTokens: this.promptLength,
      completionTokens: this.#generated,
      cachedTokens: this.cachedTokens,
    };
  }
}
