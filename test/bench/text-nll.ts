import type { LambdaGeometry } from "../../runtime/cache/lambda-cache.js";
import { negativeLogProbability } from "../../runtime/calibration/text-nll.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";

/**
 * NLL of every token given those before it, prefilled in chunks; NaN for the first.
 * @param onResiduals is given what the runner's taps hold of each chunk
 */
export function textNll(
  runner: Runner,
  tokens: readonly number[],
  chunk: number,
  geometry: LambdaGeometry,
  onResiduals?: (residuals: Residuals) => void,
): Float64Array {
  const { vocabSize } = runner.model.shape;
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  const nll = new Float64Array(tokens.length).fill(Number.NaN);
  for (let start = 0; start < tokens.length - 1; start += chunk) {
    const part = tokens.slice(start, Math.min(start + chunk, tokens.length - 1));
    const residuals: Residuals = new Map();
    const tapped = onResiduals === undefined ? {} : { residuals };
    const logits = runner.prefill(cache, row, part, [...part.keys()], tapped);
    onResiduals?.(residuals);
    for (const i of part.keys()) {
      const ofToken = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
      nll[start + i + 1] = negativeLogProbability(ofToken, tokens[start + i + 1] ?? 0);
    }
  }
  runner.closeCache(cache);
  return nll;
}
