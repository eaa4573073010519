import * as z from "zod";
import { InvalidRequest } from "../../runtime/errors.js";
import type { FeatureRequest } from "../../runtime/features.js";
import type { Engine, ModelCard, SamplingParams, SequenceRequest } from "../../runtime/generation.js";
import { checkEdits, Edits } from "./edits.js";
import { ReadingFields, toFeatureRequest } from "./feature-request.js";
import { LambdaInfinite, toLambdaOptions } from "./lambda-infinite.js";
import { parseBody } from "./parse.js";
import { readPrompts } from "./prompt.js";
import { tokenize } from "./tokenize.js";

/** The body of POST /v1/features. Nobody else's clients send it, so a field that nobody knows is a mistake. */
const TextFeaturesRequest = ReadingFields.extend({
  model: z.string().nullish(),
  input: z
    .unknown()
    .refine((input) => input !== undefined && input !== null, { error: "expected a string or an array" })
    .transform((input, ctx) => readPrompts(input, ctx, "input")),
  edits: Edits.nullish(),
  lm_infinite: LambdaInfinite.nullish(),
  stream: z.boolean().nullish(),
});
export type TextFeaturesRequest = z.output<typeof TextFeaturesRequest>;

/** @throws InvalidRequest naming the first field that is wrong. */
export function parseTextFeaturesRequest(body: unknown): TextFeaturesRequest {
  return parseBody(TextFeaturesRequest, body);
}

/**
 * One sequence per input, read and not continued, with edits from its first token on; and the tokens of all of them.
 * @throws InvalidRequest naming the field that this model cannot serve; `stream` where the answer is too long without.
 */
export async function toReadSequences(
  request: TextFeaturesRequest,
  engine: Engine,
): Promise<{ sequences: SequenceRequest[]; promptTokens: number }> {
  const features = toFeatureRequest({ ...request, prompt: true }, engine.card, null);
  checkEdits(request.edits ?? [], engine.card);
  const inputs = await Promise.all(request.input.map((input) => tokenize(input, engine, false)));
  const promptTokens = inputs.reduce((sum, { ids }) => sum + ids.length, 0);
  if (!request.stream) checkLength(promptTokens, features, engine.card);
  const sequences = inputs.map(
    ({ ids }): SequenceRequest => ({
      prompt: ids,
      maxTokens: 0,
      minTokens: 0,
      ignoreEos: false,
      stopTokenIds: [],
      stop: [],
      sampling: GREEDY,
      logprobs: null,
      promptLogprobs: null,
      lambda: toLambdaOptions(request.lm_infinite),
      features,
      edits: request.edits ?? [],
      editsFrom: "prompt",
    }),
  );
  return { sequences, promptTokens };
}

/** Of an answer in one piece: 12 MB and 0.2 s of JSON.stringify (8 features each of 3 SAEs), in which nobody else is served. */
const MOST_NUMBERS = 1_000_000;
/** l0, z, f, eps_lbo and mse. */
const SCALARS = 5;

function checkLength(tokens: number, features: FeatureRequest, card: ModelCard): void {
  const numbers = tokens * mostNumbers(features, card);
  if (numbers <= MOST_NUMBERS) return;
  throw new InvalidRequest(
    `${tokens} tokens may give ${numbers} numbers, more than the ${MOST_NUMBERS} that are sent in one answer; set stream: true`,
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

/** What no token is drawn with. */
const GREEDY: SamplingParams = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
};
