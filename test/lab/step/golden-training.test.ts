import { describe, expect, test } from "vitest";
import { CuttingStep } from "../../../lab/step/cutting-step.js";
import { DeviceStep } from "../../../lab/step/device-step.js";
import { JumpreluStep } from "../../../lab/step/jumprelu-step.js";
import { newState, type TrainingState } from "../../../lab/step/sae-state.js";
import type { StepResult } from "../../../lab/step/training-step.js";
import { CPU } from "../../../runtime/ort/device.js";
import { type GoldenTraining, goldenTraining } from "./golden-training.js";

/** Largest difference, by the largest value. */
function deviation(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(found.length).toBe(expected.length);
  let [difference, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const apart = Math.abs(found[i]! - expected[i]!);
    difference = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : Math.max(difference, apart);
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return largest === 0 ? difference : difference / largest;
}

/** What each kind of number may deviate by: the errors of a port to float32 times ten. */
const WITHIN = { loss: 2e-6, afa: 2e-5, gradient: 5e-6, weight: 5e-6, leastKept: 1e-4 };

const expectClose = (what: string, found: ArrayLike<number>, expected: ArrayLike<number> | undefined, most: number) => {
  if (expected === undefined) throw new Error(`the golden has no ${what}`);
  expect({ what, deviates: deviation(found, expected) <= most ? 0 : deviation(found, expected) }).toEqual({
    what,
    deviates: 0,
  });
};

const WEIGHTS = ["W_enc", "W_dec", "b_dec"];

function expectState(
  { expected }: GoldenTraining,
  state: TrainingState,
  step: number,
  weights: readonly string[],
): void {
  for (const name of weights)
    for (const prefix of ["", "m.", "v."])
      expectClose(
        `after${step}.${prefix}${name}`,
        state.tensors.get(`${prefix}${name}`) ?? [],
        expected.get(`after${step}.${prefix}${name}`),
        WITHIN.weight,
      );
}

const CUT = [
  [
    "afa-lambda-1-32",
    "afa-lambda-1-16",
    "afa-general",
    "afa-general-centred",
    "afa-general-raw",
    "afa-dead",
    "afa-dead-centred-aux-cut",
  ],
  ["topk", "topk-dead", "batchtopk", "batchtopk-dead"],
].flat();

describe.each(CUT)("the trainer of the paper's authors, %s", (name) => {
  const training = goldenTraining(name);
  const { golden, config, x, expected, integers } = training;
  const { activation } = config;
  if (activation.kind === "jumprelu") throw new Error("it is no cut");
  const rows = config.batch;

  const state = () => newState(config, training.init);
  const shown = { showsGradients: true };
  test.each([
    ["cut by a thread", () => new CuttingStep(config, activation, state(), { threads: 1, ...shown })],
    ["cut by three threads", () => new CuttingStep(config, activation, state(), { threads: 3, ...shown })],
    ["cut by graphs", () => new DeviceStep(config, activation, state(), { device: CPU, threads: 1, ...shown })],
  ] as const)("all steps %s: losses, choices, gradients and weights", (_, open) => {
    using step = open();
    const results: StepResult[] = [];
    for (let i = 0; i < golden.steps; i++) {
      const batch = x.subarray(i * rows * config.dIn, (i + 1) * rows * config.dIn);
      results.push(step.run(batch, { learningRate: golden.lr }));
      const at = i + 1;
      if (step instanceof CuttingStep) {
        if (activation.kind === "top-afa")
          expect(step.rows.places).toEqual(integers.get("k")?.subarray(i * rows, at * rows));
        expect(step.rows.counts).toEqual(integers.get("l0_rows")?.subarray(i * rows, at * rows));
      }
      const idle = integers.get("idle")?.subarray(i * config.dSae, at * config.dSae);
      expect(Int32Array.from(step.state().idle)).toEqual(idle);
      for (const weight of WEIGHTS) {
        const gradient = expected.get(`grad${at}.${weight}`);
        if (gradient === undefined) continue;
        const own = weight === "W_dec" ? "W_dec.unprojected" : weight;
        expectClose(`grad${at}.${weight}`, step.gradient(own), gradient, WITHIN.gradient);
        const projected = `grad${at}.W_dec.projected`;
        if (weight === "W_dec")
          expectClose(projected, step.gradient("W_dec"), expected.get(projected), WITHIN.gradient);
      }
      if (expected.has(`after${at}.W_enc`)) expectState(training, step.state(), at, WEIGHTS);
    }
    for (const loss of ["mse", "aux", "total"] as const)
      expectClose(
        loss,
        results.map((result) => result[loss]),
        expected.get(loss),
        WITHIN.loss,
      );
    const all = (name: "afa" | "l0" | "leastKept") => results.map((result) => result[name]);
    expectClose("afa", all("afa"), expected.get("afa"), WITHIN.afa);
    expectClose("l0", all("l0"), expected.get("l0"), 1e-7);
    expectClose("min_kept", all("leastKept"), expected.get("min_kept"), WITHIN.leastKept);
    expect(results.map(({ dead }) => dead)).toEqual(golden.n_dead);
  });
});

describe.each(["jumprelu", "jumprelu-general"])("SAELens' trainer, %s", (name) => {
  const training = goldenTraining(name);
  const { golden, config, x, expected } = training;
  const rows = config.batch;
  const weights = [...WEIGHTS, "b_enc", "threshold"];

  test("all steps: losses, gradients and weights", () => {
    using step = new JumpreluStep(config, golden.l0_coefficient, newState(config, training.init), {
      threads: 1,
      showsGradients: true,
    });
    const results: StepResult[] = [];
    const lengths: (number | null)[] = [];
    for (let i = 0; i < golden.steps; i++) {
      const sparsity = golden.l0_warm_up_steps > 0 ? Math.min(1, i / golden.l0_warm_up_steps) : 1;
      results.push(
        step.run(x.subarray(i * rows * config.dIn, (i + 1) * rows * config.dIn), { learningRate: golden.lr, sparsity }),
      );
      lengths.push(step.gradientLength);
      const at = i + 1;
      if (i === 0)
        for (const weight of weights) {
          expectClose(
            `grad1.${weight}`,
            step.gradient(`${weight}.unclipped`),
            expected.get(`grad1.${weight}`),
            WITHIN.gradient,
          );
          expectClose(
            `grad1.clipped.${weight}`,
            step.gradient(weight),
            expected.get(`grad1.clipped.${weight}`),
            WITHIN.gradient,
          );
        }
      if (expected.has(`after${at}.W_enc`)) expectState(training, step.state(), at, weights);
    }
    expectClose(
      "mse",
      results.map(({ mse }) => mse * config.dIn),
      expected.get("mse"),
      WITHIN.loss,
    );
    expectClose(
      "l0_loss",
      results.map(({ l0Loss }) => l0Loss),
      expected.get("l0_loss"),
      WITHIN.loss,
    );
    expectClose(
      "total",
      results.map(({ total }) => total),
      expected.get("total"),
      WITHIN.loss,
    );
    expectClose(
      "l0",
      results.map(({ l0 }) => l0),
      expected.get("l0"),
      1e-7,
    );
    expectClose(
      "grad_norm",
      lengths.map((length) => length ?? Number.NaN),
      expected.get("grad_norm"),
      WITHIN.loss,
    );
  });
});
