import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { initialWeights } from "../../../lab/step/initial-weights.js";
import { openStep } from "../../../lab/step/open-step.js";
import { newState } from "../../../lab/step/sae-state.js";
import type { TrainOptions } from "../../../lab/train/train-options.js";
import { trainSae } from "../../../lab/train/train-sae.js";
import { train } from "../../../lab/train/trainer.js";
import type { TrainingConfig } from "../../../lab/train/training-config.js";
import { packageRoot } from "../../../models/package-root.js";
import { smallTraining } from "./small-training.js";

const { home, out, texts } = smallTraining();

const optionsOf = (name: string): TrainOptions => ({
  model: {
    ...{ path: join(packageRoot(), "models", "default"), name: "default", precision: "f32", device: { kind: "cpu" } },
    ...{ threads: 1, cacheDir: join(home, "cache") },
  },
  ...{ hook: "blocks.1.hook_resid_post", text: texts, context: 64, tokens: 1024, buffer: 512, batch: 128, width: 32 },
  ...{ activation: { kind: "topk", k: 4 }, featureTokens: 1e6, out: out(name) },
});

test("a training hears an interruption between steps, also where all of its rows are at hand", async () => {
  const config: TrainingConfig = {
    ...{ model: { name: "", content: "", precision: "f32" }, hook: "", head: null, data: "", text: [], context: null },
    ...{
      skipStart: 0,
      startsTexts: true,
      tokens: 4000,
      passes: 1,
      buffer: 16,
      seed: 1,
      learningRate: 1e-3,
      warmUp: 0,
      decay: 0,
    },
    step: {
      ...{ dIn: 4, dSae: 8, batch: 4, normalisation: "none", activation: { kind: "topk", k: 2 } },
      dead: { penalty: 1 / 32, most: 4, after: 20 },
      adam: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, clip: null },
    },
  };
  const rows = Float32Array.from({ length: 16 }, (_, i) => Math.sin(i));
  using step = openStep(config.step, newState(config.step, initialWeights(config.step, rows, 1)), { threads: 1 });
  let interrupted = false;
  void setImmediate().then(() => {
    interrupted = true;
  });
  const next = async (into: Float32Array): Promise<boolean> => {
    into.set(rows);
    return true;
  };
  const made = await train(config, step, { next }, { goesOn: () => !interrupted });
  expect(made).toBeLessThan(1000);
});

test("an interruption while the buffer is filled ends the run, and leaves its folder as it was", async () => {
  const interruption = new AbortController();
  const onPlan = () => interruption.abort();
  const ended = await trainSae(optionsOf("filling"), { signal: interruption.signal, onPlan });
  expect(ended).toMatchObject({ steps: 0, finished: false, resumable: null });
  expect(readdirSync(out("filling"))).toEqual([]);
});

test("an interruption while features are described leaves the SAE, which is whole by then", async () => {
  const interruption = new AbortController();
  const notices: string[] = [];
  const ended = await trainSae(optionsOf("describing"), {
    ...{ signal: interruption.signal, onShare: () => interruption.abort() },
    onNotice: (line) => notices.push(line),
  });
  expect(ended).toMatchObject({ steps: 8, finished: true });
  expect(readdirSync(out("describing")).sort()).toEqual([
    ...["cfg.json", "curve.jsonl", "curves.svg", "sae_weights.safetensors", "training.json"],
  ]);
  expect(notices.join()).toContain("lab eval --features");
});

test("weights that the last update has made infinite are neither a checkpoint nor an SAE", async () => {
  const options = { ...optionsOf("infinite"), tokens: 128, learningRate: 1e39, warmUp: 0 };
  await expect(trainSae(options)).rejects.toThrow(/step 1 has made numbers of \S+ that are not finite/);
  expect(existsSync(join(out("infinite"), "cfg.json"))).toBe(false);
});
