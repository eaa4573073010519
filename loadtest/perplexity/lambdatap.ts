import type { LambdatapCard, Target } from "../target/target.js";

/**
 * What the target says of its model, with the window that was asked for.
 * @throws Error: a sentence, where it cannot be measured.
 */
export function lambdatapOf({ lambdatap, model, url }: Target, window?: number): LambdatapCard {
  if (lambdatap === null) {
    const needs = "perplexity needs a server that gives and takes token ids and is told how to attend";
    throw new Error(`${url} is no lambdatap server: ${needs} (return_token_ids, lm_infinite)`);
  }
  if (!lambdatap.has_tokenizer) throw new Error(`${model} at ${url} has no tokenizer, so it cannot read a text`);
  if (window !== undefined && window > lambdatap.window)
    throw new Error(`--window is at most the server's: ${lambdatap.window}`);
  return { ...lambdatap, window: window ?? lambdatap.window };
}
