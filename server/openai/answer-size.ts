import { InvalidRequest } from "../../runtime/errors.js";
import type { FeatureRequest } from "../../runtime/features.js";
import type { ModelCard, SequenceRequest } from "../../runtime/generation.js";
import type { TokenFeatures } from "./features.js";

/** Of an answer in one piece: 12 MB and 0.2 s of JSON.stringify (8 features each of 3 SAEs), in which nobody else is served. */
const MOST_NUMBERS = 1_000_000;
/** l0, z, f, eps_lbo and mse. */
const SCALARS = 5;

/** @throws InvalidRequest where the readings of so many tokens may be more than an answer in one piece holds. */
export function checkAnswerSize(tokens: number, features: FeatureRequest, card: ModelCard): void {
  const numbers = tokens * mostNumbers(features, card);
  if (numbers > MOST_NUMBERS) throw tooLarge(`${tokens} tokens may give ${numbers} numbers,`);
}

/** What is known before of the readings in an answer in one piece; what is not is counted as it comes (countNumbers). */
export function checkWholeAnswer(sequences: readonly SequenceRequest[], card: ModelCard): void {
  const [features] = sequences.map((sequence) => sequence.features);
  if (!features) return;
  const read = (sum: number, { prompt, maxTokens }: SequenceRequest) =>
    sum + (features.prompt ? prompt.length : 0) + (maxTokens ?? 0);
  checkAnswerSize(sequences.reduce(read, 0), features, card);
}

/** Counts the numbers of an answer whose length nobody knows before. The returned function throws as `checkAnswerSize`. */
export function countNumbers(): (token: TokenFeatures) => void {
  let numbers = 0;
  return ({ saes }) => {
    for (const { top } of saes) numbers += SCALARS + 2 * top.length;
    if (numbers > MOST_NUMBERS) throw tooLarge("the readings of this text have grown to");
  };
}

function tooLarge(what: string): InvalidRequest {
  return new InvalidRequest(
    `${what} more than the ${MOST_NUMBERS} that are sent in one answer; set stream: true`,
    "stream",
  );
}

/** Numbers that the readings of one token can have. */
function mostNumbers({ saes, top, activation }: FeatureRequest, card: ModelCard): number {
  const asked = card.saes.filter(({ id }) => saes.includes(id));
  return asked.reduce((sum, { dSae, k }) => {
    const kept = activation.kind === "top-k" ? activation.k : activation.kind === "native" ? (k ?? dSae) : dSae;
    return sum + SCALARS + 2 * Math.min(top, kept);
  }, 0);
}
