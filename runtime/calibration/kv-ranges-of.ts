import type { KvRanges } from "../../models/keys-values/kv-ranges.js";
import type { ModelShape } from "../../models/model-shape.js";
import { LambdaCache } from "../cache/lambda-cache.js";
import type { Runner } from "../graphs/runner.js";
import type { Tensor } from "../ort/tensor.js";
import { ObservedRanges } from "./observed-ranges.js";

/** Tokens of a text that is read at a time, at most. */
const LONGEST_TEXT = 1024;

/** Tokens of each of the texts that a model is calibrated with. */
export const calibrationLength = ({ trainedLength }: ModelShape): number => Math.min(trainedLength, LONGEST_TEXT);

/**
 * How large keys and values get in these texts, each read from its beginning; none may be longer than `calibrationLength`.
 * @param runner one that keeps keys and values as floats
 * @throws SetupError where they are not finite.
 */
export function kvRangesOf(runner: Runner, texts: readonly (readonly number[])[]): KvRanges {
  const { model, device } = runner;
  const observed = new ObservedRanges(model.shape);
  const read = (tensor: Tensor): Float32Array => tensor.read(new Float32Array(tensor.size));
  const geometry = { window: calibrationLength(model.shape), sinks: 0 };
  // Not by `openCache`, which would load the decode graph as well.
  using cache = new LambdaCache(model.shape, geometry, model.activations, device, false);
  for (const ids of texts) {
    const row = cache.allocate();
    runner.prefill(cache, row, ids, [], {
      keysAndValues: (layer, keys, values) => observed.see(layer, read(keys), read(values)),
    });
    cache.release(row);
  }
  return observed.ranges();
}
