import type { KvRanges } from "../../models/keys-values/kv-ranges.js";
import type { LambdaGeometry } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import type { Tensor } from "../../runtime/ort/tensor.js";

/**
 * Shares of the keys and of the values of a text that lie beyond their ranges.
 * @param runner one that keeps keys and values as floats
 */
export function beyondRanges(
  runner: Runner,
  ids: readonly number[],
  geometry: LambdaGeometry,
  ranges: KvRanges,
): { readonly keys: number; readonly values: number } {
  const { headDim } = runner.model.shape;
  const found = { keys: 0, values: 0 };
  let all = 0;
  const count = (tensor: Tensor, range: Float32Array | undefined): number => {
    const tokens = tensor.shape[2] ?? 0;
    const numbers = tensor.read(new Float32Array(tensor.size));
    return numbers.filter((value, i) => {
      const head = Math.floor(i / (tokens * headDim));
      return Math.abs(value) > (range?.[head * headDim + (i % headDim)] ?? 0);
    }).length;
  };
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  for (let start = 0; start < ids.length; start += geometry.window)
    runner.prefill(cache, row, ids.slice(start, start + geometry.window), [], {
      keysAndValues: (layer, keys, values) => {
        found.keys += count(keys, ranges.keys[layer]);
        found.values += count(values, ranges.values[layer]);
        all += keys.size;
      },
    });
  runner.closeCache(cache);
  return { keys: found.keys / all, values: found.values / all };
}
