import { InvalidRequest } from "../../runtime/contract/errors.js";
import type { FeatureRequest } from "../../runtime/contract/features.js";
import type { ModelCard, SequenceRequest } from "../../runtime/contract/generation.js";
import type { TokenFeatures } from "./features.js";
import type { GenerationRequest } from "./request/generation-fields.js";

/** Of an answer in one piece: 12 MB and 0.2 s of JSON.stringify (8 features each of 3 SAEs), in which nobody else is served. */
const MOST_NUMBERS = 1_000_000;
/** Of the same, log-probabilities of alternatives included: 200 to 550 MB before they are JSON. */
const MOST_LOGPROBS = 1 << 21;
/** l0, z, f, eps_lbo and mse. */
const SCALARS = 5;

/** @throws InvalidRequest where the readings of so many tokens may be more than an answer in one piece holds. */
export function checkAnswerSize(tokens: number, features: FeatureRequest, card: ModelCard): void {
  const numbers = tokens * mostNumbers(features, card);
  if (numbers > MOST_NUMBERS) throw tooLarge(`${tokens} tokens may give ${numbers} numbers,`);
}

/**
 * What is known before of an answer in one piece; what is not is counted as it comes (countNumbers, countLogprobs): the
 * length of a text that nobody asked for is not known.
 * @throws InvalidRequest where it is more than one answer holds.
 */
export function checkWholeAnswer(
  { max_tokens }: Pick<GenerationRequest, "max_tokens">,
  sequences: readonly SequenceRequest[],
  card: ModelCard,
): void {
  checkPromptLogprobs(sequences);
  const count = countLogprobs();
  for (const { prompt, promptLogprobs } of sequences) count(prompt.length, promptLogprobs);
  const [features] = sequences.map((sequence) => sequence.features);
  if (!features) return;
  const read = (sum: number, { prompt }: SequenceRequest) =>
    sum + (features.prompt ? prompt.length : 0) + (max_tokens ?? 0);
  checkAnswerSize(sequences.reduce(read, 0), features, card);
}

function checkPromptLogprobs(sequences: readonly SequenceRequest[]): void {
  const numbers = ({ prompt, promptLogprobs, promptRanks }: SequenceRequest) =>
    promptRanks ? 2 * prompt.length * (1 + (promptLogprobs ?? 0)) : 0;
  const all = sequences.reduce((sum, sequence) => sum + numbers(sequence), 0);
  if (all <= MOST_NUMBERS) return;
  const message = `they may have ${all} numbers, more than the ${MOST_NUMBERS} that are sent in one answer`;
  throw new InvalidRequest(message, "prompt_logprobs");
}

/** Counts the numbers of an answer whose length nobody knows before. The returned function throws as `checkAnswerSize`. */
export function countNumbers(): (token: TokenFeatures) => void {
  let numbers = 0;
  return ({ saes }) => {
    for (const { top } of saes) numbers += SCALARS + 2 * top.length;
    if (numbers > MOST_NUMBERS) throw tooLarge("the readings of this text have grown to");
  };
}

/** Counts tokens and their alternatives (null: none are told). The returned function throws where they become too many. */
export function countLogprobs(): (tokens: number, alternatives: number | null) => void {
  let logprobs = 0;
  return (tokens, alternatives) => {
    if (alternatives !== null) logprobs += tokens * (1 + alternatives);
    if (logprobs > MOST_LOGPROBS) throw tooLarge("the log-probabilities of these tokens are", MOST_LOGPROBS);
  };
}

function tooLarge(what: string, most = MOST_NUMBERS): InvalidRequest {
  return new InvalidRequest(`${what} more than the ${most} that are sent in one answer; set stream: true`, "stream");
}

/** Numbers that the readings of one token can have. */
function mostNumbers({ saes, top, activation }: FeatureRequest, card: ModelCard): number {
  const asked = card.saes.filter(({ id }) => saes.includes(id));
  return asked.reduce((sum, { dSae, k }) => {
    const kept = activation.kind === "top-k" ? activation.k : activation.kind === "native" ? (k ?? dSae) : dSae;
    return sum + SCALARS + 2 * Math.min(top, kept);
  }, 0);
}
