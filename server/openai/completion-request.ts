import * as z from "zod";
import { flag, generationFields, wrongMinTokens } from "./generation-fields.js";
import { parseBody } from "./parse.js";
import { readPrompts } from "./prompt.js";

/**
 * The body of POST /v1/completions: OpenAI's fields, vLLM's that concern generation, ours. Fields that nobody here knows
 * are ignored, as OpenAI-compatible servers do.
 */
export const CompletionRequest = z
  .object({
    ...generationFields,
    prompt: z
      .unknown()
      .transform((prompt, ctx) => readPrompts(prompt, ctx, "prompt"))
      .prefault(null),
    suffix: z.literal("", { error: "text cannot be inserted before a suffix; leave it out" }).nullish(),
    max_tokens: z.int().min(0).nullable().default(16),
    best_of: z.int().min(0).nullish(),
    echo: flag,
    logprobs: z.int().min(0).max(20).nullable().default(null),
  })
  .check(({ value, issues }) => {
    const refuse = (field: string, message: string) =>
      issues.push({ code: "custom", message, input: value, path: [field] });
    if (value.best_of && value.best_of !== (value.n ?? 1)) {
      refuse("best_of", "choosing the best of more than n is not supported; leave it out");
    }
    const wrong = wrongMinTokens(value.min_tokens, value.max_tokens);
    if (wrong !== null) refuse("min_tokens", wrong);
  });
export type CompletionRequest = z.output<typeof CompletionRequest>;

/** @throws InvalidRequest naming the first field that is wrong, as a path: "lm_infinite.window", "prompt[1]". */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  return parseBody(CompletionRequest, body);
}
