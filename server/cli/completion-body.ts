import type { GenerateOptions } from "./options.js";

/** The flags of a completion as the body of POST /v1/completions. */
export function toCompletionBody(prompt: string, options: GenerateOptions): object {
  return {
    prompt,
    max_tokens: options.maxTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    min_p: options.minP,
    repetition_penalty: options.repetitionPenalty,
    seed: options.seed,
    stop: options.stop,
    ignore_eos: options.ignoreEos,
  };
}
