import { Runner } from "../../runtime/runner.js";
import { GPU_PRECISIONS, type GpuPrecision, WIDTH } from "./ceilings.js";
import type { Findings } from "./findings.js";
import { fullCache } from "./full-cache.js";
import { randomCompiledModel } from "./random-compiled-model.js";
import type { Bench, Section } from "./section.js";
import { cached, large, type Shape, small, weightsRead } from "./shapes.js";
import { stepTimes } from "./steps.js";

const SINKS = 10;
/** Share of the bandwidth that decoding the large shape must reach. */
const GOAL = 0.5;

interface Case {
  readonly window: number;
  readonly rows: number;
  readonly replays: boolean;
}

/** Decoding with a full window. The floor: every weight once, and the keys and values of every row once. */
export const decode: Section = {
  name: "decode",
  about:
    "Random weights, window full, 10 starting tokens. Floor: weights (the head among them) and visible keys and values, each read once in the model's own type, at the larger of the two bandwidths above. A step includes reading the logits.",
  run(bench, findings) {
    const add = findings.table("Decode", [
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
      "share of the floor",
      "weights as stored, GB",
    ]);
    for (const { shape, precision, cases, held } of plan(bench)) {
      if (bench.expired()) {
        findings.note(`${shape.name} ${precision} was not run: the time was up.`);
        continue;
      }
      measure(bench, { shape, precision, cases, held }, add);
    }
  },
};

interface Model {
  readonly shape: Shape;
  readonly precision: GpuPrecision;
  readonly cases: readonly Case[];
  /** Whether it is held to the goal. */
  readonly held: boolean;
}

function plan({ quick, tiny }: Bench): Model[] {
  const both = (window: number): Case[] => [true, false].map((replays) => ({ window, rows: 1, replays }));
  const batches = [4, 8].map((rows) => ({ window: 1024, rows, replays: true }));
  const first: Model = {
    shape: large(tiny),
    precision: "f16",
    cases: [...both(1024), ...both(4096), ...batches],
    held: true,
  };
  const others = (quick ? ["bf16" as const] : GPU_PRECISIONS).flatMap((precision): Model[] => [
    ...(precision === "f16" ? [] : [{ shape: large(tiny), precision, cases: both(1024), held: false }]),
    ...(quick ? [] : [{ shape: small(tiny), precision, cases: both(1024), held: false }]),
  ]);
  const quickSmall: Model[] = quick ? [{ shape: small(tiny), precision: "f16", cases: both(1024), held: false }] : [];
  return [first, ...quickSmall, ...others];
}

function measure(bench: Bench, { shape, precision, cases, held }: Model, add: ReturnType<Findings["table"]>): void {
  const { device, scratch, quick } = bench;
  const model = randomCompiledModel(shape, precision, scratch);
  for (const replays of [true, false]) {
    using runner = new Runner(model, { window: 4096, threads: 1, device, replays });
    for (const { window, rows } of cases.filter((each) => each.replays === replays)) {
      const tokens = window + SINKS + 1;
      const cache = fullCache(runner, { window, sinks: SINKS }, rows, tokens);
      const { median: ms, p99 } = stepTimes(runner, cache, quick ? 60 : 200);
      runner.closeCache(cache);
      const bytes = WIDTH[precision] * (weightsRead(shape.sizes) + rows * cached(shape.sizes, window + SINKS));
      const floor = (bytes / bench.ceilings.bandwidth()) * 1000;
      const share = floor / ms;
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
        held && rows === 1 && replays ? { goal: `share >= ${GOAL}`, met: share >= GOAL } : undefined,
      );
    }
  }
}
