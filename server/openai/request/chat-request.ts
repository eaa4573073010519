import * as z from "zod";
import { type Conversation, RESERVED_VARIABLES } from "../../../models/chat/chat-template.js";
import type { JsonBody } from "../../body.js";
import { memberTexts } from "../../json-members.js";
import { ChatMessages } from "./chat-messages.js";
import { checkFields, type FieldRules } from "./check-fields.js";
import { flag, type GenerationRequest, generationFields, wrongMinTokens } from "./generation-fields.js";
import { MaxTokens } from "./max-tokens.js";
import { wrongPromptLogprobs } from "./output-fields.js";
import { parseBody } from "./parse.js";

/** Variables of the template besides its own (vLLM), looked at up to the first that is wrong. */
const TemplateVariables = z.record(z.string(), z.unknown()).check(({ value, issues }) => {
  for (const [name, each] of Object.entries(value)) {
    const isReserved = RESERVED_VARIABLES.has(name);
    if (!isReserved && isFiniteThroughout(each)) continue;
    const message = isReserved ? "the template has this variable already" : "expected numbers below 1.8e308";
    issues.push({ code: "custom", message, input: undefined, path: [name] });
    return;
  }
});

/** Whether a JSON value has no number that is too large for a double, which JSON.parse reads as Infinity. */
function isFiniteThroughout(value: unknown): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  return typeof value !== "object" || value === null || Object.values(value).every(isFiniteThroughout);
}

/**
 * The body of POST /v1/chat/completions: OpenAI's fields, vLLM's that concern the template, and those of every generation.
 * `checkFields` has the others.
 */
export const ChatBody = z
  .object({
    ...generationFields,
    messages: ChatMessages,
    max_tokens: MaxTokens.optional(),
    /** OpenAI's name for it since 2024; it wins, as in vLLM. */
    max_completion_tokens: MaxTokens.optional(),
    logprobs: flag,
    top_logprobs: z.int().min(0).max(20).nullish(),
    add_generation_prompt: flag,
    continue_final_message: flag,
    chat_template_kwargs: TemplateVariables.nullish(),
    reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).nullish(),
  })
  .check(({ value, issues }) => {
    const refuse = (field: string, message: string) =>
      issues.push({ code: "custom", message, input: value, path: [field] });
    const wrong = wrongMinTokens(value.min_tokens, chosenMaxTokens(value));
    if (wrong !== null) refuse("min_tokens", wrong);
    const streamed = wrongPromptLogprobs(value);
    if (streamed !== null) refuse("prompt_logprobs", streamed);
    if (value.top_logprobs && !value.logprobs) refuse("top_logprobs", "expected logprobs: true with it");
    if (value.add_generation_prompt && value.continue_final_message)
      refuse(
        "continue_final_message",
        "expected without add_generation_prompt: a message goes on, or a new one begins",
      );
  });

/** The newer field wins where both have a number, as in vLLM; undefined where nothing is said. */
const chosenMaxTokens = ({ max_tokens: old, max_completion_tokens: most }: MaxTokensFields) =>
  most ?? (old === undefined ? most : old);
interface MaxTokensFields {
  readonly max_tokens?: number | null | undefined;
  readonly max_completion_tokens?: number | null | undefined;
}

/** What is asked: of the template, and of the model. */
export interface ChatRequest extends GenerationRequest {
  readonly conversation: Conversation;
}

/** @throws InvalidRequest naming the first field that is wrong, as a path: "messages[0].content[1].type". */
export function parseChatRequest({ text, value }: JsonBody, rules: FieldRules = { strict: false }): ChatRequest {
  checkFields(value, ChatBody.shape, rules);
  const parsed = parseBody(ChatBody, value);
  const sent = memberTexts(text);
  const continued = parsed.continue_final_message === true;
  return {
    ...parsed,
    max_tokens: chosenMaxTokens(parsed),
    logprobs: parsed.logprobs ? (parsed.top_logprobs ?? 0) : null,
    echo: false,
    conversation: {
      messages: sent.get("messages") ?? "[]",
      addGenerationPrompt: parsed.add_generation_prompt ?? !continued,
      continueFinalMessage: continued,
      tools: null,
      variables: {
        ...effort(parsed.reasoning_effort),
        ...Object.fromEntries(memberTexts(sent.get("chat_template_kwargs") ?? "{}")),
      },
    },
  };
}

/** OpenAI's wish for more or less thinking, as vLLM tells it to the template. */
function effort(reasoningEffort: string | null | undefined): Conversation["variables"] {
  if (reasoningEffort === null || reasoningEffort === undefined) return {};
  return {
    reasoning_effort: JSON.stringify(reasoningEffort),
    enable_thinking: JSON.stringify(reasoningEffort !== "none"),
  };
}
