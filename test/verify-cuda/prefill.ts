import type { LambdaCache } from "../../runtime/lambda-cache.js";
import { Runner } from "../../runtime/runner.js";
import { layerWeights } from "../bench/bench-model.js";
import { median, timed } from "../bench/report.js";
import { GPU_PRECISIONS, type GpuPrecision, WIDTH } from "./ceilings.js";
import { randomCompiledModel } from "./random-compiled-model.js";
import type { Bench, Section } from "./section.js";
import { cached, chunkOperations, large, type Shape, small } from "./shapes.js";

const WINDOW = 4096;
const SINKS = 10;
const CHUNKS = [512, 2048];

/** Prompts of two windows: chunks that end within the window, and chunks beyond it, whose graph is another one. */
export const prefill: Section = {
  name: "prefill",
  about:
    "Window 4096, 10 starting tokens, prompts of 8192 tokens, the second of two. Floor: operations at the rate of the 8192 x 8192 x 8192 product of the same type, or bytes (weights, visible keys and values once) at the bandwidth, whichever takes longer. Host: until the call returns with everything queued, during which the GPU computes already.",
  run(bench, findings) {
    const columns = [
      "shape",
      "type",
      "chunk",
      "where",
      "tokens/s",
      "ms a chunk",
      "host, ms",
      "floor, ms",
      "share of the floor",
      "TFLOP/s",
    ];
    const add = findings.table("Prefill", columns);
    for (const { shape, precision } of plan(bench)) {
      if (bench.expired()) {
        findings.note(`${shape.name} ${precision} was not run: the time was up.`);
        continue;
      }
      using runner = new Runner(randomCompiledModel(shape, precision, bench.scratch), {
        window: WINDOW,
        threads: 1,
        device: bench.device,
      });
      for (const chunk of CHUNKS)
        for (const { where, chunks } of [...byPlace(prompt(bench, runner, chunk))]) {
          const ms = median(chunks.map((each) => each.ms));
          const operations = median(
            chunks.map((each) => chunkOperations(shape.sizes, each.start, chunk, WINDOW + SINKS)),
          );
          const visible = median(chunks.map((each) => Math.min(each.start + chunk, WINDOW + SINKS + chunk)));
          const bytes = WIDTH[precision] * (layerWeights(shape.sizes) + cached(shape.sizes, visible));
          const { ceilings } = bench;
          const floor = 1000 * Math.max(operations / ceilings.operations(precision), bytes / ceilings.bandwidth());
          add([
            shape.name,
            precision,
            String(chunk),
            where,
            (chunk * 1000) / ms,
            ms,
            median(chunks.map((each) => each.hostMs)),
            floor,
            floor / ms,
            operations / ms / 1e9,
          ]);
        }
    }
  },
};

function plan({ quick, tiny }: Bench): { readonly shape: Shape; readonly precision: GpuPrecision }[] {
  if (quick) return [large(tiny), small(tiny)].map((shape) => ({ shape, precision: "f16" }));
  const precisions: readonly GpuPrecision[] = ["f16", ...GPU_PRECISIONS.filter((each) => each !== "f16")];
  return precisions.flatMap((precision) => [large(tiny), small(tiny)].map((shape) => ({ shape, precision })));
}

interface ChunkTime {
  /** Tokens before it. */
  readonly start: number;
  readonly ms: number;
  /** Until the call returned. */
  readonly hostMs: number;
}

/** A prompt of two windows, the second time that it is run. */
function prompt(bench: Bench, runner: Runner, chunk: number): ChunkTime[] {
  const cache = runner.openCache({ window: WINDOW, sinks: SINKS });
  try {
    const [, second] = [0, 1].map(() => {
      const row = cache.allocate();
      const times = pass(bench, runner, cache, row, chunk);
      cache.release(row);
      return times;
    });
    return second ?? [];
  } finally {
    runner.closeCache(cache);
  }
}

function pass({ device }: Bench, runner: Runner, cache: LambdaCache, row: number, chunk: number): ChunkTime[] {
  const { vocabSize } = runner.model.shape;
  return Array.from({ length: (2 * WINDOW) / chunk }, (_, i) => {
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

function byPlace(chunks: readonly ChunkTime[]): { readonly where: string; readonly chunks: readonly ChunkTime[] }[] {
  const inside = (each: ChunkTime) => each.start < WINDOW;
  return [
    { where: "within the window", chunks: chunks.filter(inside) },
    { where: "beyond it", chunks: chunks.filter((each) => !inside(each)) },
  ];
}
