import type { LambdaCache, LambdaGeometry } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";

/** Runs `use` on one row of a fresh cache. */
export function withRow<Result>(
  runner: Runner,
  geometry: LambdaGeometry,
  use: (cache: LambdaCache, row: number) => Result,
): Result {
  const cache = runner.openCache(geometry);
  try {
    return use(cache, cache.allocate());
  } finally {
    runner.closeCache(cache);
  }
}

/**
 * Logits [tokens, vocab] of a text.
 * @param chunk prefilled in chunks of so many tokens; null: decoded token by token
 */
export function logitsOf(
  runner: Runner,
  geometry: LambdaGeometry,
  tokens: readonly number[],
  chunk: number | null,
): Float32Array {
  return withRow(runner, geometry, (cache, row) => {
    const { vocabSize } = runner.model.shape;
    const logits = new Float32Array(tokens.length * vocabSize);
    const size = chunk ?? 1;
    for (let start = 0; start < tokens.length; start += size) {
      const part = tokens.slice(start, start + size);
      const found =
        chunk === null ? runner.decode(cache, row, part) : runner.prefill(cache, row, part, [...part.keys()]);
      logits.set(found, start * vocabSize);
    }
    return logits;
  });
}
