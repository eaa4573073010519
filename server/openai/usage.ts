/** Tokens of an answer, as OpenAI counts them. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

export function toUsage(tokens: { readonly promptTokens: number; readonly completionTokens: number }): Usage {
  const { promptTokens, completionTokens } = tokens;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}
