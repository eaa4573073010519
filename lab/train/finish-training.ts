import { isResidualHook } from "../../models/hooks.js";
import { compileSae } from "../../models/sae/compile-sae.js";
import { SetupError } from "../../runtime/contract/errors.js";
import { SaeCoder } from "../../runtime/saes/sae-coder.js";
import { Contexts } from "../activations/contexts.js";
import { trainingCurves } from "../charts/training-curves.js";
import { writeFeatures } from "../features/write-features.js";
import type { TrainingStep } from "../step/training-step.js";
import type { RunFolder } from "./run-folder.js";
import { writeSaelensFolder } from "./saelens-folder.js";
import { type SettledThreshold, settledThreshold } from "./settled-threshold.js";
import { finiteState } from "./trainer.js";
import type { TrainingCurve } from "./training-curve.js";
import { inBatches, openRows, type RowChoice } from "./training-source.js";
import { writeFile } from "./write-file.js";

/** Held-out tokens that features.jsonl is made of where nobody says how many. */
const FEATURE_TOKENS = 1_000_000;

export interface Finishing extends RowChoice {
  readonly folder: RunFolder;
  readonly step: TrainingStep;
  readonly curve: TrainingCurve;
  /** Is told of a job, and of the share of it that is done. */
  readonly onShare: (job: string, share: number) => void;
}

/**
 * Writes the SAE that a training has come to, its configuration and curves, and what its features are active on over text that
 * was held out.
 * @throws SetupError where a file cannot be written
 */
export async function finishTraining(finishing: Finishing): Promise<void> {
  const { folder, step, curve, config, options, onNotice } = finishing;
  const state = finiteState(step);
  const missing = await missingHeldOut(finishing);
  const settled = await settle(finishing, missing === null);
  if (settled?.rows === 0)
    onNotice("too little is held out of training to settle the threshold by: the training's running one is kept");
  writeFile(folder.file("training.json"), `${JSON.stringify({ ...config, steps: state.step, settled }, null, 1)}\n`);
  writeFile(folder.file("curves.svg"), await drawn(curve, config.step.dSae));
  writeSaelensFolder(folder.path, {
    ...{ config, state, threshold: settled?.threshold ?? null },
    ...{ tokens: state.step * config.step.batch, storedAs: options.storedAs ?? "f32" },
  });
  await describeFeatures(finishing, missing);
}

/** Why no context of the text is held out; null: some are, or the rows are those of prompts. */
async function missingHeldOut({ model, config, options }: Finishing): Promise<string | null> {
  if (options.prompts !== undefined) return null;
  const { text, context } = options;
  try {
    await Contexts.open(model, { text, context, part: "held-out", seed: config.seed }).next();
    return null;
  } catch (error) {
    if (error instanceof SetupError) return error.message;
    throw error;
  }
}

async function drawn(curve: TrainingCurve, dSae: number): Promise<string> {
  const { renderChart } = await import("../../loadtest/report/chart.js");
  return renderChart(trainingCurves(curve.lines, dSae).spec);
}

/** null: it is no batch top-k. */
async function settle({ step, options, ...choice }: Finishing, hasHeldOut: boolean): Promise<SettledThreshold | null> {
  const { activation } = step.config;
  if (activation.kind !== "batch-topk") return null;
  const running = step.state().threshold ?? 0;
  // Of prompts nothing is held out.
  if (options.prompts !== undefined || !hasHeldOut) return { threshold: running, rows: 0 };
  const open = openRows({ ...choice, options }, "held-out");
  return settledThreshold(step, activation.k, running, async () => inBatches(await open()));
}

async function describeFeatures(
  { folder, model, columns, config, options, onShare, onNotice, signal }: Finishing,
  missing: string | null,
): Promise<void> {
  const tokens = options.featureTokens ?? FEATURE_TOKENS;
  const { hook } = columns;
  if (tokens === 0 || options.prompts !== undefined || !isResidualHook(hook)) return;
  if (missing !== null) {
    onNotice(`features.jsonl is left out: ${missing}`);
    return;
  }
  const ignoresMean = model.compiled.shape.ignoresMean === "always";
  const compiled = await compileSae({ folder: folder.path, precision: "f32", cacheRoot: model.cacheRoot, ignoresMean });
  using coder = new SaeCoder(compiled, { threads: model.threads });
  const contexts = Contexts.open(model, {
    ...{ text: options.text, context: options.context, part: "held-out", seed: config.seed, onNotice },
  });
  const next = () => {
    signal?.throwIfAborted();
    return contexts.next();
  };
  try {
    const sae = { hook, folder: folder.path, coder };
    const onProgress = (share: number) => onShare("describing features", share);
    await writeFeatures(model, [sae], { next }, { tokens, onProgress });
  } catch (error) {
    if (signal?.aborted !== true || error !== signal.reason) throw error;
    onNotice("features.jsonl is left out, as the run was interrupted: lab eval --features makes it");
  }
}
