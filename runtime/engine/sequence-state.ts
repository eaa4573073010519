import type { GenerationEvent, SequenceRequest } from "../contract/generation.js";
import { behindPrompt, type DetokenizerState } from "../sampling/detokenizer.js";
import type { StopStringsState } from "../sampling/stop-strings.js";
import { TokenChooser, type TokenChooserState } from "../sampling/token-chooser.js";
import type { SequenceContext } from "./sequence.js";

export type TokenEvent = Extract<GenerationEvent, { type: "token" }>;
export type EndEvent = Extract<GenerationEvent, { type: "end" }>;
/** What a sequence asks for, besides its prompt. */
export type AskedSequence = Omit<SequenceRequest, "prompt">;

/** An event that waits for the readings of its token, and the end if it was the last. */
export interface HeldToken {
  readonly token: TokenEvent;
  readonly end: EndEvent | null;
}

/**
 * Where a sequence that has not ended stands between two steps, as plain data. Of its text it has what later tokens depend
 * on: once the prompt's keys are in the cache, it has the same size however long the text is.
 */
export interface SequenceState {
  readonly asked: AskedSequence;
  readonly promptLength: number;
  /** Prompt tokens from `prefilled` on, the last at least. */
  readonly prompt: Int32Array<ArrayBuffer>;
  /** Prompt tokens whose keys are in the cache. */
  readonly prefilled: number;
  /** Those of them that were not computed for this request. */
  readonly cachedTokens: number;
  /** The token that the next decode step takes. */
  readonly lastToken: number;
  readonly generated: number;
  readonly held: HeldToken | null;
  readonly chooser: TokenChooserState;
  readonly text: DetokenizerState;
  readonly stops: StopStringsState;
}

/** A sequence of which nothing is computed yet. */
export function firstState({ prompt, ...asked }: SequenceRequest, context: SequenceContext): SequenceState {
  const lastToken = prompt.at(-1) ?? 0;
  const chooser = new TokenChooser(asked.sampling, context.candidates, context.window);
  chooser.readPrompt(prompt);
  return {
    asked,
    promptLength: prompt.length,
    prompt,
    prefilled: 0,
    cachedTokens: 0,
    lastToken,
    generated: 0,
    held: null,
    chooser: chooser.state(),
    text: behindPrompt(context.tokens, lastToken),
    stops: { held: "", matched: null },
  };
}
