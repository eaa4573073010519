import * as z from "zod";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import type { ModelCard } from "../../../runtime/contract/generation.js";
import type { GenerationRequest } from "./generation-fields.js";

/** What the server says of the length of answers. */
export interface TokenLimits {
  /** Largest max_tokens; undefined: no limit. */
  readonly maxTokensLimit?: number | undefined;
  /** max_tokens of a chat that names none; undefined: as generation_config.json has it, else what the trained length leaves beside the prompt. */
  readonly defaultMaxTokens?: number | undefined;
}

/** A prompt as long as what the model was trained on gets an answer, too. */
const SHORTEST_DEFAULT = 256;

/** `max_tokens` on the wire; null, and -1 as llama.cpp has it, are until a stop. */
export const MaxTokens = z
  .int()
  .min(-1)
  .nullable()
  .transform((tokens) => (tokens === -1 ? null : tokens));

/**
 * Tokens that a prompt of so many is answered with at most; null: until a stop.
 * @throws InvalidRequest where the server does not generate as many.
 */
export function answerTokens(
  request: Pick<GenerationRequest, "max_tokens" | "max_completion_tokens" | "min_tokens">,
  promptTokens: number,
  { trainedLength, maxNewTokens }: ModelCard,
  { maxTokensLimit = Number.POSITIVE_INFINITY, defaultMaxTokens }: TokenLimits,
): number | null {
  const tooMany = (field: string) =>
    new InvalidRequest(`this server generates at most ${maxTokensLimit} tokens`, field);
  const { max_tokens: asked } = request;
  const least = request.min_tokens ?? 0;
  if ((asked ?? 0) > maxTokensLimit)
    throw tooMany(typeof request.max_completion_tokens === "number" ? "max_completion_tokens" : "max_tokens");
  if (least > maxTokensLimit) throw tooMany("min_tokens");
  const usual = defaultMaxTokens ?? maxNewTokens ?? Math.max(SHORTEST_DEFAULT, trainedLength - promptTokens);
  const most = asked === undefined ? Math.max(least, usual) : (asked ?? Number.POSITIVE_INFINITY);
  const limited = Math.min(most, maxTokensLimit);
  return limited === Number.POSITIVE_INFINITY ? null : limited;
}
