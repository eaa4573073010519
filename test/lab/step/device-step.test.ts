import { expect, test } from "vitest";
import { CuttingStep } from "../../../lab/step/cutting-step.js";
import { DeviceStep } from "../../../lab/step/device-step.js";
import { initialWeights } from "../../../lab/step/initial-weights.js";
import { newState } from "../../../lab/step/sae-state.js";
import type { StepConfig } from "../../../lab/step/step-config.js";
import { CPU } from "../../../runtime/ort/device.js";

const activation = { kind: "top-afa", lambda: 1 / 32, target: "centred" } as const;
const config: StepConfig = {
  ...{ dIn: 24, dSae: 900, batch: 16, normalisation: "layer_norm", activation },
  dead: { penalty: 1 / 32, most: 8, after: 3 },
  adam: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, clip: null },
};

test("a batch whose cut lies beyond the places that are sorted at first is cut among all, as threads cut it", () => {
  const x = Float32Array.from({ length: 16 * 24 }, (_, i) => Math.sin(i * i));
  const weights = initialWeights(config, x, 3);
  using device = new DeviceStep(config, activation, newState(config, weights), {
    device: CPU,
    threads: 1,
    places: 128,
  });
  using threads = new CuttingStep(config, activation, newState(config, weights), { threads: 1 });
  for (let i = 0; i < 5; i++) {
    const [found, expected] = [device.run(x, { learningRate: 1e-3 }), threads.run(x, { learningRate: 1e-3 })];
    expect(expected.l0).toBeGreaterThan(128);
    expect(found.l0).toBe(expected.l0);
    expect(found.dead).toBe(expected.dead);
    expect(found.total).toBeCloseTo(expected.total, 5);
  }
});
