import { Runner } from "../../runtime/graphs/runner.js";
import { layerWeights } from "../bench/bench-model.js";
import { median } from "../bench/report.js";
import { type GpuPrecision, WIDTH } from "./ceilings.js";
import { type ChunkTime, timeChunks } from "./chunk-times.js";
import type { Findings } from "./findings.js";
import { runParts } from "./parts.js";
import { randomCompiledModel } from "./random-compiled-model.js";
import type { Bench, Section } from "./section.js";
import { cached, chunkOperations, large, type Shape, small } from "./shapes.js";

const GEOMETRY = { window: 4096, sinks: 10 };
const CHUNKS = [512, 2048];
const COLUMNS = [
  "shape",
  "type",
  "chunk",
  "where",
  "tokens/s",
  "ms a chunk",
  "host, ms",
  "floor, ms",
  "of the floor, %",
  "TFLOP/s",
];

interface Model {
  readonly shape: Shape;
  readonly precision: GpuPrecision;
}

/** Prompts in chunks: those that end within the window, and those beyond it, whose graph is another one. */
export const prefill: Section = {
  name: "prefill",
  about:
    "Window 4096, 10 starting tokens; medians of the chunks of a prompt, once others have run. Floor: operations at the rate of the 8192 x 8192 x 8192 product of the same type, or bytes (weights, visible keys and values once) at the bandwidth, whichever takes longer. Host: until the call returns with everything queued, during which the GPU computes already.",
  async run(bench, findings) {
    const add = findings.table("Prefill", COLUMNS);
    const parts = models(bench).map((model) => ({
      name: `${model.shape.name} in ${model.precision}`,
      run: () => measure(bench, model, add),
    }));
    await runParts(bench, findings, parts);
  },
};

function models({ quick, tiny }: Bench): Model[] {
  const precisions: readonly GpuPrecision[] = quick ? ["f16"] : ["f16", "bf16", "f32"];
  return precisions.flatMap((precision) => [large(tiny), small(tiny)].map((shape) => ({ shape, precision })));
}

function measure(bench: Bench, { shape, precision }: Model, add: ReturnType<Findings["table"]>): void {
  const { device, scratch, quick } = bench;
  const model = randomCompiledModel(shape, precision, scratch);
  using runner = new Runner(model, { window: GEOMETRY.window, threads: 1, device });
  for (const chunk of CHUNKS) {
    const times = timeChunks(device, runner, GEOMETRY, chunk, quick ? 2 : 4);
    for (const [where, found] of Object.entries(times))
      add([shape.name, precision, String(chunk), where, ...figures(bench, { shape, precision }, chunk, found)]);
  }
}

function figures(
  { ceilings }: Bench,
  { shape: { sizes }, precision }: Model,
  chunk: number,
  times: readonly ChunkTime[],
): number[] {
  const full = GEOMETRY.window + GEOMETRY.sinks;
  const middle = (of: (time: ChunkTime) => number) => median(times.map(of));
  const [ms, hostMs] = [middle((each) => each.ms), middle((each) => each.hostMs)];
  const operations = middle(({ start }) => chunkOperations(sizes, start, chunk, full));
  const visible = middle(({ start }) => Math.min(start, full) + chunk);
  const bytes = WIDTH[precision] * (layerWeights(sizes) + cached(sizes, visible));
  const floor = 1000 * Math.max(operations / ceilings.operations(precision), bytes / ceilings.bandwidth());
  return [(chunk * 1000) / ms, ms, hostMs, floor, (100 * floor) / ms, operations / ms / 1e9];
}
