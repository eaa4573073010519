import { availableParallelism } from "node:os";
import { compileModel } from "../../models/compile.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { type Figure, median, percentile, timed } from "./report.js";

const GEOMETRY = { window: 256, sinks: 10 };
/** Below this many bytes of weights the engine takes one thread, too. */
const SINGLE_THREAD_BYTES = 32 << 20;

/**
 * Decode steps one after the other with nothing else in the process: what the machine itself makes of even work, below which
 * no server comes.
 */
export async function bareSteps(
  name: string,
  {
    model: path,
    precision,
    cacheDir,
  }: { readonly model: string; readonly precision: AskedPrecision; readonly cacheDir: string },
  steps: number,
): Promise<Figure> {
  const model = await compileModel({ path, precision, cacheRoot: cacheDir });
  const threads = model.weights.bytes < SINGLE_THREAD_BYTES ? 1 : availableParallelism();
  using runner = new Runner(model, { window: GEOMETRY.window, threads });
  const cache = runner.openCache(GEOMETRY);
  const row = cache.allocate();
  for (let i = 0; i < 2; i++)
    runner.prefill(
      cache,
      row,
      Array.from({ length: GEOMETRY.window }, (_, id) => id),
    );
  const ms = Array.from({ length: steps }, () => timed(() => runner.decode(cache, row, [1])));
  const [p50, p99] = [median(ms), percentile(ms, 0.99)];
  const beside = `p50 ${p50.toFixed(2)}; p99 is ${(p99 / p50).toFixed(2)} x p50, the floor of the next`;
  return { name: `${name}: a decode step with nothing beside it, p99`, value: p99, unit: "ms", beside };
}
