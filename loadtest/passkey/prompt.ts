/** The authors' wording (LM-Infinite, arXiv 2308.16137; their passkey script), exactly. */
const PREFIX =
  "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. " +
  "I will quiz you about the important information there.";
const FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
const keySentence = (key: number) => `The pass key is ${key}. Remember it. ${key} is the pass key.`;

/** What stands in a prompt. */
export interface PasskeyPrompt {
  readonly key: number;
  /** Fillers before the key sentence. */
  readonly before: number;
  /** Fillers after it. */
  readonly after: number;
  /** Asked at the end; empty for none, as the authors have it. */
  readonly question: string;
}

/** Prefix, fillers, key sentence, fillers, question, a space between any two. */
export function passkeyText({ key, before, after, question }: PasskeyPrompt): string {
  const fillers = (count: number): string[] => Array.from({ length: count }, () => FILLER);
  const asked = question === "" ? [] : [question];
  return [PREFIX, ...fillers(before), keySentence(key), ...fillers(after), ...asked].join(" ");
}

/**
 * Puts the key sentence between so many fillers.
 * @param depth 0: before all of them, 1: after all of them
 */
export function placeKey(fillers: number, depth: number): Pick<PasskeyPrompt, "before" | "after"> {
  const before = Math.round(depth * fillers);
  return { before, after: fillers - before };
}
