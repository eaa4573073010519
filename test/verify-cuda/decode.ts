import { Runner } from "../../runtime/graphs/runner.js";
import { type GpuPrecision, WIDTH } from "./ceilings.js";
import type { Findings } from "./findings.js";
import { fullCache } from "./full-cache.js";
import { runParts } from "./parts.js";
import { randomCompiledModel } from "./random-compiled-model.js";
import type { Bench, Section } from "./section.js";
import { cached, large, type Shape, small, weightsRead } from "./shapes.js";
import { stepTimes } from "./steps.js";

const SINKS = 10;
/** Percent of the bandwidth that decoding the large shape in f16 must reach. */
const GOAL = 50;

const COLUMNS = [
  "shape",
  "type",
  "window",
  "rows",
  "replays",
  "ms, median",
  "ms, p99",
  "tokens/s",
  "GB to read",
  "floor, ms",
  "of the floor, %",
  "weights as stored, GB",
];

/** Decoding with a full window. The floor: every weight once, and the keys and values of every row once. */
export const decode: Section = {
  name: "decode",
  about:
    "Random weights, window full, 10 starting tokens. Floor: weights (the head among them) and visible keys and values, each read once in the model's own type, at the larger of the two bandwidths above. A step includes reading the logits.",
  async run(bench, findings) {
    const add = findings.table("Decode", COLUMNS);
    const parts = models(bench).map((model) => ({
      name: `${model.shape.name} in ${model.precision}`,
      run: () => measure(bench, model, add),
    }));
    await runParts(bench, findings, parts);
  },
};

interface Case {
  readonly window: number;
  readonly rows: number;
}

interface Model {
  readonly shape: Shape;
  readonly precision: GpuPrecision;
  /** With and without replays. */
  readonly cases: readonly Case[];
  /** With replays. */
  readonly batches: readonly Case[];
}

/** The one that is held to the goal first. */
function models({ quick, tiny }: Bench): Model[] {
  const plain = { window: 1024, rows: 1 };
  const of = (shape: Shape, precision: GpuPrecision): Model => ({ shape, precision, cases: [plain], batches: [] });
  const first = {
    ...of(large(tiny), "f16"),
    cases: [plain, { window: 4096, rows: 1 }],
    batches: [4, 8].map((rows) => ({ window: 1024, rows })),
  };
  if (quick) return [first, of(small(tiny), "f16"), of(large(tiny), "bf16")];
  const others = (["bf16", "f32"] as const).flatMap((precision) => [
    of(large(tiny), precision),
    of(small(tiny), precision),
  ]);
  return [first, of(small(tiny), "f16"), ...others];
}

function measure(
  { device, scratch, quick, ceilings }: Bench,
  { shape, precision, cases, batches }: Model,
  add: ReturnType<Findings["table"]>,
): void {
  const model = randomCompiledModel(shape, precision, scratch);
  for (const replays of [true, false]) {
    using runner = new Runner(model, { window: 4096, threads: 1, device, replays });
    for (const { window, rows } of replays ? [...cases, ...batches] : cases) {
      const cache = fullCache(runner, { window, sinks: SINKS }, rows, window + SINKS + 1);
      const { median: ms, p99 } = stepTimes(runner, cache, quick ? 60 : 200);
      runner.closeCache(cache);
      const bytes = WIDTH[precision] * (weightsRead(shape.sizes) + rows * cached(shape.sizes, window + SINKS));
      const floor = (bytes / ceilings.bandwidth()) * 1000;
      const share = (100 * floor) / ms;
      const held = shape.name === "1.7B" && precision === "f16" && rows === 1 && replays;
      add(
        [
          shape.name,
          precision,
          String(window),
          String(rows),
          replays ? "yes" : "no",
          ms,
          p99,
          (rows * 1000) / ms,
          bytes / 1e9,
          floor,
          share,
          model.weights.bytes / 1e9,
        ],
        held ? { goal: `>= ${GOAL} % of the floor`, met: share >= GOAL } : undefined,
      );
    }
  }
}
