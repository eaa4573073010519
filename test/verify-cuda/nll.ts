import type { LambdaGeometry } from "../../runtime/lambda-cache.js";
import type { Runner } from "../../runtime/runner.js";

/** Mean negative log-likelihood, nat, of the tokens after the first, prefilled in chunks of the window. */
export function meanNll(runner: Runner, tokens: readonly number[], geometry: LambdaGeometry): number {
  const { vocabSize } = runner.model.shape;
  const { window } = geometry;
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  let sum = 0;
  for (let start = 0; start < tokens.length - 1; start += window) {
    const chunk = tokens.slice(start, Math.min(start + window, tokens.length - 1));
    const logits = runner.prefill(cache, row, chunk, [...chunk.keys()]);
    for (const i of chunk.keys())
      sum += negativeLogProbability(logits.subarray(i * vocabSize, (i + 1) * vocabSize), tokens[start + i + 1] ?? 0);
  }
  runner.closeCache(cache);
  return sum / (tokens.length - 1);
}

/** -log softmax(logits)[token]. */
export function negativeLogProbability(logits: Float32Array, token: number): number {
  let [largest, sum] = [Number.NEGATIVE_INFINITY, 0];
  for (const logit of logits) largest = Math.max(largest, logit);
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum) - (logits[token] ?? 0);
}
