import { NO_FRAME, type TextFrame } from "../../models/tokenizer/text-frame.js";
import { InvalidRequest } from "../../runtime/contract/errors.js";
import type { Engine, ModelCard } from "../../runtime/contract/generation.js";
import type { Prompt } from "./request/prompt.js";

/** A prompt as the model gets it. */
export interface TokenizedPrompt {
  readonly ids: Int32Array<ArrayBuffer>;
  /** What `echo` gives back. */
  readonly text: string;
  /** What we put around the text's own ids; no part of `text`. */
  readonly frame: TextFrame;
}

/** How prompts are read and repeated. */
export interface TokenizeOptions {
  /** Whether `text` is asked for. */
  readonly echo: boolean;
  /** Whether special tokens are put around texts. */
  readonly special: boolean;
  /** Whether special tokens among given ids have text. */
  readonly specialText: boolean;
}

export const READ_ONLY: TokenizeOptions = { echo: false, special: true, specialText: false };

/**
 * Token ids as they are, a text with the special tokens around it that the tokenizer puts there, those in front only where
 * it does not begin with them; the empty text is the beginning-of-text token where there is one.
 * @throws InvalidRequest naming the prompt that this model cannot read.
 */
export async function tokenize(
  prompt: Prompt,
  engine: Engine,
  { echo, special, specialText }: TokenizeOptions,
): Promise<TokenizedPrompt> {
  const { bosTokenId, hasTokenizer } = engine.card;
  if ("ids" in prompt) {
    checkIds(prompt.ids, prompt.at, engine.card);
    const ids = new Int32Array(prompt.ids);
    const text = echo ? engine.decode(ids, specialText ? "keep" : "skip") : "";
    return { ids, text, frame: NO_FRAME };
  }
  if (prompt.text !== "" && !hasTokenizer) {
    throw new InvalidRequest("this model has no tokenizer; send token ids", prompt.at);
  }
  const own = prompt.text === "" ? new Int32Array() : await engine.encode(prompt.text, prompt.at);
  const { before, after } = special ? engine.card.frame : NO_FRAME;
  const begun = before.every((id, i) => own[i] === id);
  const frame = { before: begun ? [] : before, after };
  const ids = framed(own, frame);
  if (ids.length > 0) return { ids, text: prompt.text, frame };
  if (bosTokenId !== null && special)
    return { ids: Int32Array.of(bosTokenId), text: "", frame: { before: [bosTokenId], after: [] } };
  const why = special ? "this model has no beginning-of-text token" : "add_special_tokens is false";
  throw new InvalidRequest(`expected a prompt: ${why}`, prompt.at);
}

function framed(own: Int32Array<ArrayBuffer>, { before, after }: TextFrame): Int32Array<ArrayBuffer> {
  if (before.length + after.length === 0) return own;
  const ids = new Int32Array(before.length + own.length + after.length);
  ids.set(before);
  ids.set(own, before.length);
  ids.set(after, before.length + own.length);
  return ids;
}

/** @throws InvalidRequest naming the first id that is not in the vocabulary. */
export function checkIds(ids: readonly number[], at: string, card: ModelCard): void {
  const wrong = ids.findIndex((id) => id >= card.vocabSize);
  if (wrong !== -1) checkId(ids[wrong] ?? 0, `${at}[${wrong}]`, card);
}

/** @throws InvalidRequest where the id is not in the vocabulary. */
export function checkId(id: number, at: string, card: ModelCard): void {
  if (id < card.vocabSize) return;
  throw new InvalidRequest(`token id ${id} is not in the vocabulary (0 to ${card.vocabSize - 1})`, at);
}
