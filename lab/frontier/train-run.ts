import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { compileSae } from "../../models/sae/compile-sae.js";
import type { Device } from "../../runtime/ort/device.js";
import { SaeCoder } from "../../runtime/saes/sae-coder.js";
import type { ActivationFile } from "../activations/activation-file.js";
import { initialWeights } from "../step/initial-weights.js";
import { openStep } from "../step/open-step.js";
import { newState } from "../step/sae-state.js";
import type { TrainedActivation } from "../step/step-config.js";
import type { StepResult, TrainingStep } from "../step/training-step.js";
import { writeSaelensFolder } from "../train/saelens-folder.js";
import { settledThreshold } from "../train/settled-threshold.js";
import { type BatchSource, train } from "../train/trainer.js";
import type { TrainingConfig } from "../train/training-config.js";
import { PeekableBatches } from "../train/training-source.js";
import type { FrontierRun, RunResult } from "./frontier-run.js";

/** The last training steps that are compared: the paper's number. */
const LAST_STEPS = 100;
/** Batches that the threshold of a batch top-k is settled by. */
const SETTLING = 10;

/** What all runs have in common. */
export interface RunGround {
  /** Of any of them: activation and seed are the run's own. */
  readonly config: TrainingConfig;
  readonly activations: ActivationFile;
  /** [rows, dIn] that are not trained on. */
  readonly heldOut: Float32Array;
  readonly afaTarget: "input" | "centred";
  readonly threads: number;
  readonly device: Device;
  /** Whether the model ignores its residuals' mean. */
  readonly ignoresMean: boolean;
  /** Where the SAE lies while it is judged. */
  readonly folder: string;
}

/** Who is told how far a training is, and ends it. */
export interface RunOnlookers {
  readonly onStep?: (step: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Trains one SAE and judges it.
 * @returns null where it was ended before
 * @throws SetupError naming the step whose losses are not finite
 */
export async function trainRun(
  run: FrontierRun,
  ground: RunGround,
  { onStep, signal }: RunOnlookers = {},
): Promise<RunResult | null> {
  const { activations, threads, device } = ground;
  const config = configOf(run, ground);
  const { batch, dIn } = config.step;
  const batches = new PeekableBatches(activations.batches(batch, run.seed), batch * dIn);
  const weights = initialWeights(config.step, await batches.peek(), run.seed);
  using step = openStep(config.step, newState(config.step, weights), { threads, device });
  const last: StepResult[] = [];
  await train(config, step, batches, {
    onStep(number, result) {
      last.push(result);
      if (last.length > LAST_STEPS) last.shift();
      onStep?.(number);
    },
    goesOn: () => signal?.aborted !== true,
  });
  if (signal?.aborted === true) return null;
  return {
    ...run,
    last: { mse: last.map(({ mse }) => mse), l0: last.map(({ l0 }) => l0) },
    heldOut: await judge(step, config, ground),
    dead: last.at(-1)?.dead ?? 0,
  };
}

function configOf({ method, setting, seed }: FrontierRun, { config, afaTarget }: RunGround): TrainingConfig {
  const activation: TrainedActivation =
    method === "top-afa" ? { kind: method, lambda: setting, target: afaTarget } : { kind: method, k: setting };
  return { ...config, seed, step: { ...config.step, activation } };
}

/** By the SAE that a server would read: batch top-k has its one threshold, settled by rows that were trained on. */
async function judge(step: TrainingStep, config: TrainingConfig, ground: RunGround): Promise<RunResult["heldOut"]> {
  const { activations, heldOut, ignoresMean, threads } = ground;
  const { activation, batch, dIn } = config.step;
  const state = step.state();
  const settling = async () => firstOf(activations.batches(batch, config.seed));
  const settled =
    activation.kind === "batch-topk"
      ? await settledThreshold(step, activation.k, state.threshold ?? 0, settling)
      : null;
  // One that a killed run has left is overwritten.
  const folder = join(ground.folder, "judged");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  try {
    const threshold = settled?.threshold ?? null;
    writeSaelensFolder(folder, { config, state, threshold, tokens: state.step * batch, storedAs: "f32" });
    const compiled = await compileSae({ folder, precision: "f32", cacheRoot: join(folder, "cache"), ignoresMean });
    using coder = new SaeCoder(compiled, { threads });
    const { rows, normalisedErrors, starts } = coder.code(heldOut);
    const errors = normalisedErrors.reduce((sum, error) => sum + error, 0);
    return { mse: errors / (rows * dIn), l0: starts[rows]! / rows };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function firstOf(batches: BatchSource): BatchSource {
  let left = SETTLING;
  return { next: async (into) => left-- > 0 && batches.next(into) };
}
