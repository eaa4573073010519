/** Tokens of an answer, as OpenAI counts them. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  /** Prompt tokens that were not computed for this request, because another prompt began alike; null: not known. */
  readonly prompt_tokens_details: { readonly cached_tokens: number } | null;
}

export function toUsage(tokens: {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number | null;
}): Usage {
  const { promptTokens, completionTokens, cachedTokens } = tokens;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: cachedTokens === null ? null : { cached_tokens: cachedTokens },
  };
}
