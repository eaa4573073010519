import type { LambdaCache, LambdaGeometry } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import { randomise } from "./random-tensor.js";

/**
 * A cache of so many rows as after texts of `tokens` tokens, its keys and values random: what a step costs does not depend
 * on them, and gigabytes of text need not be prefilled first.
 */
export function fullCache(runner: Runner, geometry: LambdaGeometry, rows: number, tokens: number): LambdaCache {
  const cache = runner.openCache(geometry);
  for (let i = 0; i < rows; i++) cache.reserve(cache.allocate(), tokens);
  const sinkKeys = cache.sinkKeys.flatMap((tensor) => tensor ?? []);
  for (const tensor of [...cache.keys, ...cache.values, ...sinkKeys]) randomise(tensor, 1);
  for (let row = 0; row < rows; row++) pretend(cache, row, tokens);
  return cache;
}

/** Counts tokens that a row has not seen. */
export function pretend(cache: LambdaCache, row: number, tokens: number): void {
  for (let i = 0; i < tokens; i++) cache.advance(row);
}
