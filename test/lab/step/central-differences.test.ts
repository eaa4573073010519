import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, test } from "vitest";
import { CuttingStep } from "../../../lab/step/cutting-step.js";
import { JumpreluStep } from "../../../lab/step/jumprelu-step.js";
import { newState } from "../../../lab/step/sae-state.js";
import { type StepConfig, type TrainedActivation, trainedWeights } from "../../../lab/step/step-config.js";
import { float64Loss, type Weights } from "./float64-loss.js";

const DELTA = 1e-6;
/** Of the largest gradient: ten times what float32 loses. */
const WITHIN = 5e-6;

const ACTIVATIONS: readonly TrainedActivation[] = [
  { kind: "top-afa", lambda: 1 / 16, target: "input" },
  { kind: "top-afa", lambda: 1 / 24, target: "centred" },
  { kind: "topk", k: 5 },
  { kind: "batch-topk", k: 5 },
  { kind: "batch-topk", k: 5, widths: [3, 10, 17] },
  { kind: "jumprelu", l0Coefficient: 0.03, bandwidth: 0.05 },
];
const SHAPES = [
  { dIn: 5, dSae: 17, batch: 7, normalisation: "none" },
  { dIn: 11, dSae: 30, batch: 9, normalisation: "layer_norm" },
] as const;

describe.each(SHAPES)("gradients at d $dIn, h $dSae, B $batch, $normalisation", (shape) => {
  for (const activation of ACTIVATIONS)
    for (const dead of activation.kind === "jumprelu" ? [false] : [false, true])
      test(`of ${JSON.stringify(activation)}${dead ? " with dead features" : ""} are those of float64 central differences`, () => {
        const config: StepConfig = {
          ...{ ...shape, activation },
          dead: { penalty: 1 / 4, most: 3, after: dead ? 1 : 100 },
          adam: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, clip: activation.kind === "jumprelu" ? 1e9 : null },
        };
        const random = numbers(shape.dIn * 100 + ACTIVATIONS.indexOf(activation));
        const weights = new Map(
          Array.from(trainedWeights(config), ([name, sizes]) => {
            const scale = name === "threshold" ? 0.1 : 0.8;
            const values = Float32Array.from({ length: sizes.reduce((a, b) => a * b, 1) }, () => scale * random());
            return [name, name === "threshold" ? values.map(Math.abs) : values] as const;
          }),
        );
        // A few features are too weak to be kept.
        const encoder = weights.get("W_enc")!;
        if (dead) for (let i = 0; i < encoder.length; i++) if (i % config.dSae < 6) encoder[i]! *= 0.02;
        const x = Float32Array.from({ length: config.batch * config.dIn }, () => 2 * random() + 0.3);
        const { gradients, deadNow } = stepped(config, activation, weights, x);
        expect(deadNow.size > 0).toBe(dead);
        for (const [name, found] of gradients) {
          const expected = differences(config, weights, Float64Array.from(x), deadNow, name);
          const largest = Math.max(...expected.map(Math.abs));
          const apart = Math.max(...expected.map((value, i) => Math.abs(value - found[i]!)));
          expect({ name, apart: apart <= WITHIN * largest ? 0 : apart / largest }).toEqual({ name, apart: 0 });
        }
      });
});

/** Gradients of one step before projection and clipping, thresholds' left out: theirs are an estimator's. */
function stepped(
  config: StepConfig,
  activation: TrainedActivation,
  weights: ReadonlyMap<string, Float32Array>,
  x: Float32Array,
) {
  const state = newState(config, weights);
  const rate = { learningRate: 1e-3 };
  if (activation.kind === "jumprelu") {
    using step = new JumpreluStep(config, activation.l0Coefficient, state, { threads: 1, showsGradients: true });
    step.run(x, rate);
    const names = [...trainedWeights(config).keys()].filter((name) => name !== "threshold");
    const gradients = new Map(names.map((name) => [name, step.gradient(`${name}.unclipped`)]));
    return { gradients, deadNow: new Set<number>() };
  }
  using step = new CuttingStep(config, activation, state, { threads: 1, showsGradients: true });
  step.run(x, rate);
  const gradients = new Map([
    ["W_enc", step.gradient("W_enc")],
    ["W_dec", step.gradient("W_dec.unprojected")],
    ["b_dec", step.gradient("b_dec")],
  ]);
  const deadNow = new Set([...step.state().idle.keys()].filter((f) => step.state().idle[f]! >= config.dead.after));
  return { gradients, deadNow };
}

function differences(
  config: StepConfig,
  weights: ReadonlyMap<string, Float32Array>,
  x: Float64Array,
  dead: ReadonlySet<number>,
  name: string,
): number[] {
  const own: Weights = Object.fromEntries([...weights].map(([key, values]) => [key, Float64Array.from(values)]));
  const moved = own[name]!;
  return Array.from(moved, (value, i) => {
    moved[i] = value + DELTA;
    const above = float64Loss(config, own, x, dead);
    moved[i] = value - DELTA;
    const below = float64Loss(config, own, x, dead);
    moved[i] = value;
    return (above - below) / (2 * DELTA);
  });
}

/** Numbers from -1 to 1. */
function numbers(seed: number): () => number {
  const generator = xoroshiro128plus(seed);
  return () => ((generator.next() >>> 0) / 2 ** 32) * 2 - 1;
}
