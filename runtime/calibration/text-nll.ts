import { LambdaCache } from "../cache/lambda-cache.js";
import type { Runner } from "../graphs/runner.js";

/** Tokens of a chunk: it bounds the logits that are held at once. */
const CHUNK = 128;

/** NLL of every token of some texts but the first of each, each text read from its beginning, nat. */
export function textNlls(runner: Runner, texts: readonly (readonly number[])[]): Float64Array {
  const { model, device } = runner;
  const { vocabSize } = model.shape;
  const nlls: number[] = [];
  const window = Math.max(1, ...texts.map(({ length }) => length));
  // Not by `openCache`, which would load the decode graph as well.
  using cache = new LambdaCache(model.shape, { window, sinks: 0 }, model.activations, device, false);
  for (const ids of texts) {
    const row = cache.allocate();
    for (let start = 0; start < ids.length - 1; start += CHUNK) {
      const chunk = ids.slice(start, Math.min(start + CHUNK, ids.length - 1));
      const logits = runner.prefill(cache, row, chunk, [...chunk.keys()]);
      for (const i of chunk.keys()) {
        const ofToken = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
        nlls.push(negativeLogProbability(ofToken, ids[start + i + 1] ?? 0));
      }
    }
    cache.release(row);
  }
  return Float64Array.from(nlls);
}

/** NLL of the token with this id, nat. */
export function negativeLogProbability(logits: Float32Array, id: number): number {
  let [largest, sum] = [Number.NEGATIVE_INFINITY, 0];
  for (const logit of logits) largest = Math.max(largest, logit);
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum) - (logits[id] ?? 0);
}
