import {
  type Answer,
  type Answering,
  answerChunks,
  type ToChoice,
  type VendorFields,
  vendorFields,
  wholeAnswer,
} from "./answer.js";
import { type ChatLogprobs, chatLogprobs } from "./chat-logprobs.js";
import type { PromptLogprob } from "./prompt-logprobs.js";

interface ChoiceFields extends VendorFields {
  readonly index: number;
  readonly logprobs: ChatLogprobs | null;
  readonly finish_reason: "stop" | "length" | null;
}

/** A choice of the chat API. */
export interface ChatChoice extends ChoiceFields {
  readonly message: { readonly role: "assistant"; readonly content: string; readonly refusal: null };
}

/** What a chunk adds to it; the first chunk of a choice has the role, the last may have nothing but its end. */
export interface ChatChunkChoice extends ChoiceFields {
  readonly delta: { readonly role?: "assistant"; readonly content?: string };
}

/** An answer whose choices have one prompt. */
interface ChatAnswer extends Answer<ChatChoice> {
  /** vLLM's, with prompt_logprobs. */
  readonly prompt_logprobs: readonly PromptLogprob[] | undefined;
}

/** The whole answer. @throws InvalidRequest where the readings of its tokens become too many for one. */
export async function chatCompletion(answering: Answering<ChatLogprobs>): Promise<ChatAnswer> {
  let promptLogprobs: readonly PromptLogprob[] | undefined;
  const answer = await wholeAnswer(answering, chatLogprobs, (sum, promptIds) => {
    promptLogprobs ??= sum.promptLogprobs;
    return {
      message: { role: "assistant", content: sum.text, refusal: null } as const,
      ...choiceFields(answering, sum, promptIds),
    };
  });
  const isAsked = typeof answering.request.prompt_logprobs === "number";
  return { ...answer, prompt_logprobs: isAsked ? promptLogprobs : undefined };
}

/** The answer in chunks. */
export const chatChunks = (answering: Answering<ChatLogprobs>): AsyncGenerator<Answer<ChatChunkChoice>, void> =>
  answerChunks(
    answering,
    (delta, promptIds) => ({
      delta: delta.text === "" && delta.finishReason !== null ? {} : { content: delta.text },
      ...choiceFields(answering, delta, promptIds),
    }),
    (delta, promptIds) => ({
      delta: { role: "assistant", content: "" },
      ...choiceFields(answering, delta, promptIds),
    }),
  );

function choiceFields(
  { request }: Answering<ChatLogprobs>,
  ...[delta, promptIds]: Parameters<ToChoice<ChatLogprobs, unknown>>
): ChoiceFields {
  return {
    index: delta.index,
    logprobs: delta.logprobs,
    finish_reason: delta.finishReason,
    ...vendorFields(delta, request, promptIds),
  };
}
