import type { LambdaCache, LambdaGeometry } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import type { CudaDevice } from "../../runtime/ort/cuda-device.js";
import { timed } from "../bench/report.js";

export interface ChunkTime {
  /** Tokens before it. */
  readonly start: number;
  readonly ms: number;
  /** Until the call returned. */
  readonly hostMs: number;
}

/** Of the chunks of a prompt; another prompt has run before, and a first chunk beyond the window is not counted. */
export function timeChunks(
  device: CudaDevice,
  runner: Runner,
  geometry: LambdaGeometry,
  chunk: number,
  /** Chunks beyond the window. */
  beyond: number,
): { readonly "within the window": ChunkTime[]; readonly "beyond it": ChunkTime[] } {
  const within = geometry.window / chunk;
  const cache = runner.openCache(geometry);
  try {
    const first = cache.allocate();
    run(device, runner, cache, first, chunk, within);
    cache.release(first);
    const row = cache.allocate();
    const times = run(device, runner, cache, row, chunk, within + 1 + beyond);
    return { "within the window": times.slice(0, within), "beyond it": times.slice(within + 1) };
  } finally {
    runner.closeCache(cache);
  }
}

function run(
  device: CudaDevice,
  runner: Runner,
  cache: LambdaCache,
  row: number,
  chunk: number,
  count: number,
): ChunkTime[] {
  const { vocabSize } = runner.model.shape;
  return Array.from({ length: count }, (_, i) => {
    const start = i * chunk;
    const ids = Array.from({ length: chunk }, (_, t) => ((start + t) * 7919) % vocabSize);
    let hostMs = 0;
    device.runtime.wait();
    const ms = timed(() => {
      hostMs = timed(() => runner.prefill(cache, row, ids));
      device.runtime.wait();
    });
    return { start, ms, hostMs };
  });
}
