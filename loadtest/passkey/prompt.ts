import { type Filler, fillerText } from "./filler.js";

/** The authors' wording (LM-Infinite, arXiv 2308.16137; their passkey script), exactly. */
const PREFIX =
  "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. " +
  "I will quiz you about the important information there.";
const keySentence = (key: number) => `The pass key is ${key}. Remember it. ${key} is the pass key.`;

/** What stands in a prompt. */
export interface PasskeyPrompt {
  /** Also chooses where in the filler the prompt begins, so that prompts differ. */
  readonly key: number;
  readonly filler: Filler;
  /** Fillers before the key sentence. */
  readonly before: number;
  /** Fillers after it. */
  readonly after: number;
  /** Asked at the end; empty for none, as the authors have it. */
  readonly question: string;
}

/** Prefix, fillers, key sentence, fillers, question, a space between any two. */
export function passkeyText({ key, filler, before, after, question }: PasskeyPrompt): string {
  const fillers = fillerText(filler, key, before + after);
  const asked = question === "" ? [] : [question];
  return [PREFIX, ...fillers.slice(0, before), keySentence(key), ...fillers.slice(before), ...asked].join(" ");
}

/**
 * Puts the key sentence between so many fillers.
 * @param depth 0: before all of them, 1: after all of them
 */
export function placeKey(fillers: number, depth: number): Pick<PasskeyPrompt, "before" | "after"> {
  const before = Math.round(depth * fillers);
  return { before, after: fillers - before };
}
