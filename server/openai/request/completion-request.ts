import * as z from "zod";
import { checkFields, type FieldRules } from "./check-fields.js";
import { flag, generationFields, wrongMinTokens } from "./generation-fields.js";
import { MaxTokens } from "./max-tokens.js";
import { wrongPromptLogprobs } from "./output-fields.js";
import { parseBody } from "./parse.js";
import { readPrompts } from "./prompt.js";

/** The body of POST /v1/completions: OpenAI's fields, vLLM's that concern generation, ours. `checkFields` has the others. */
export const CompletionRequest = z
  .object({
    ...generationFields,
    prompt: z
      .unknown()
      .transform((prompt, ctx) => readPrompts(prompt, ctx, "prompt"))
      .prefault(null),
    max_tokens: MaxTokens.default(16),
    echo: flag,
    logprobs: z
      .int({ error: "expected an integer from 0 to 20: how many alternatives" })
      .min(0)
      .max(20)
      .nullable()
      .default(null),
    add_special_tokens: flag,
  })
  .check(({ value, issues }) => {
    const refuse = (field: string, message: string | null) =>
      message === null || issues.push({ code: "custom", message, input: value, path: [field] });
    refuse("min_tokens", wrongMinTokens(value.min_tokens, value.max_tokens));
    refuse("prompt_logprobs", wrongPromptLogprobs(value));
  });
export type CompletionRequest = z.output<typeof CompletionRequest>;

/** @throws InvalidRequest naming the first field that is wrong, as a path: "lm_infinite.window", "prompt[1]". */
export function parseCompletionRequest(body: unknown, rules: FieldRules = { strict: false }): CompletionRequest {
  checkFields(body, CompletionRequest.shape, rules);
  return parseBody(CompletionRequest, body);
}
