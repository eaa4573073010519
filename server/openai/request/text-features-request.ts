import * as z from "zod";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import type { Engine, SamplingParams, SequenceRequest } from "../../../runtime/contract/generation.js";
import { checkAnswerSize } from "../answer-size.js";
import { READ_ONLY, tokenize } from "../tokenize.js";
import { checkEdits, Edits } from "./edits.js";
import { ReadingFields, toFeatureRequest } from "./feature-request.js";
import { LambdaInfinite, toLambdaOptions } from "./lambda-infinite.js";
import { parseBody } from "./parse.js";
import { readPrompts } from "./prompt.js";

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
  if (request.lm_infinite?.retrieve)
    throw new InvalidRequest("nothing is generated here, which is what retrieves", "lm_infinite.retrieve");
  const inputs = await Promise.all(request.input.map((input) => tokenize(input, engine, READ_ONLY)));
  const promptTokens = inputs.reduce((sum, { ids }) => sum + ids.length, 0);
  if (!request.stream) checkAnswerSize(promptTokens, features, engine.card);
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
