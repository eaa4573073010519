import {
  type Answer,
  type Answering,
  answerChunks,
  type ToChoice,
  type VendorFields,
  vendorFields,
  wholeAnswer,
} from "./answer.js";
import { type LegacyLogprobs, legacyLogprobs } from "./legacy-logprobs.js";
import type { PromptLogprob } from "./prompt-logprobs.js";
import type { GenerationRequest } from "./request/generation-fields.js";

/** A choice of the completions API, or what a chunk adds to it. */
export interface CompletionChoice extends VendorFields {
  readonly index: number;
  readonly text: string;
  readonly logprobs: LegacyLogprobs | null;
  readonly finish_reason: "stop" | "length" | null;
  /** vLLM's, with prompt_logprobs; left out in a stream. */
  readonly prompt_logprobs: readonly PromptLogprob[] | undefined;
}

/** The whole answer. @throws InvalidRequest where the readings of its tokens become too many for one. */
export const completion = (answering: Answering<LegacyLogprobs>): Promise<Answer<CompletionChoice>> =>
  wholeAnswer(answering, legacyLogprobs, toChoice(answering.request));

/** The answer in chunks. */
export const completionChunks = (
  answering: Answering<LegacyLogprobs>,
): AsyncGenerator<Answer<CompletionChoice>, void> => answerChunks(answering, toChoice(answering.request));

const toChoice =
  (request: GenerationRequest): ToChoice<LegacyLogprobs, CompletionChoice> =>
  (delta, promptIds) => ({
    index: delta.index,
    text: delta.text,
    logprobs: delta.logprobs,
    finish_reason: delta.finishReason,
    prompt_logprobs: typeof request.prompt_logprobs === "number" ? delta.promptLogprobs : undefined,
    ...vendorFields(delta, request, promptIds),
  });
