import type { CompiledModel } from "../../models/compile.js";
import { Runner } from "../../runtime/graphs/runner.js";

/** Logits after a few tokens, the last of them decoded: both graphs have run. */
export function runTokens(model: CompiledModel, sinks = 2): Float32Array {
  using runner = new Runner(model, { window: 4, threads: 1 });
  const cache = runner.openCache({ window: 4, sinks });
  const row = cache.allocate();
  for (const chunk of [
    [1, 2, 3, 4],
    [5, 6, 7],
  ])
    runner.prefill(cache, row, chunk);
  const logits = runner.decode(cache, row, [8]);
  runner.closeCache(cache);
  return logits;
}
