import { largestInOrder } from "../../models/largest.js";
import type { TokenLogprobs } from "../contract/generation.js";
import { decaySum } from "./decay.js";
import { finiteMaximum } from "./finite-logits.js";

/**
 * Log-probabilities under raw logits: of one token, and of the `top` most likely ones, best first, of equals the lower id
 * first. Sums are in float64, errors below 2e-8. A token that is ruled out has -Infinity.
 * @param logits [vocab]
 * @throws NotFiniteLogits where the logits hold NaN or +Infinity, or rule out every token.
 */
export function tokenLogprobs(logits: Float32Array, tokenId: number, top: number): TokenLogprobs {
  const maximum = finiteMaximum(logits);
  const normaliser = maximum + Math.log(decaySum(logits, maximum));
  const logprob = (id: number) => logits[id]! - normaliser;
  const best = new Int32Array(Math.min(top, logits.length));
  largestInOrder(logits, top, best);
  return { logprob: logprob(tokenId), top: Array.from(best, (id) => ({ tokenId: id, logprob: logprob(id) })) };
}

/**
 * The place of a token among all, 1 the likeliest, of equals the lower id first.
 * @param logits [vocab], no NaN
 */
export function rankOf(logits: Float32Array, tokenId: number): number {
  const own = logits[tokenId]!;
  let rank = 1;
  for (let id = 0; id < logits.length; id++) if (logits[id]! > own || (logits[id] === own && id < tokenId)) rank++;
  return rank;
}
