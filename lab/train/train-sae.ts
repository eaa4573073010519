import { HookColumns } from "../activations/hook-columns.js";
import { ShuffleBuffer } from "../activations/shuffle-buffer.js";
import { LabModel, type Onlookers } from "../model/lab-model.js";
import { initialWeights } from "../step/initial-weights.js";
import { openStep } from "../step/open-step.js";
import { newState } from "../step/sae-state.js";
import type { StepResult } from "../step/training-step.js";
import { environmentNotice, trainingEnvironment } from "./environment.js";
import { finishTraining } from "./finish-training.js";
import { RunFolder } from "./run-folder.js";
import { type TrainOptions, trainingConfig } from "./train-options.js";
import { finiteState, train } from "./trainer.js";
import { checkSameRun, checkTraining, stepsOf, type TrainingConfig } from "./training-config.js";
import { type CurveLine, TrainingCurve } from "./training-curve.js";
import { type TrainingPlan, trainingPlan } from "./training-plan.js";
import { openRows, PeekableBatches } from "./training-source.js";

/** Who is told how a training goes. */
export interface TrainingOnlookers extends Onlookers {
  /** Before a row is read. */
  readonly onPlan?: (plan: TrainingPlan) => void;
  readonly onStep?: (step: number, result: StepResult) => void;
  /** Of what comes after the last step: a job, and the share of it that is done. */
  readonly onShare?: (job: string, share: number) => void;
  /** Ends the run after the step, or the reading of rows, that is going on; it can be resumed from its last checkpoint. */
  readonly signal?: AbortSignal;
}

/** An SAE that was trained, or as far as a run came that was ended. */
export interface TrainedSae {
  readonly config: TrainingConfig;
  readonly steps: number;
  readonly finished: boolean;
  /** Steps of the checkpoint that an ended run can be resumed from; null: there is none. */
  readonly resumable: number | null;
  readonly curve: readonly CurveLine[];
}

/**
 * Trains one SAE on what a hook of a model holds over a text, and writes it in SAELens' layout.
 * @throws SetupError in a sentence; what was there before stays, and a run can be resumed from its last checkpoint
 */
export async function trainSae(options: TrainOptions, on: TrainingOnlookers = {}): Promise<TrainedSae> {
  using folder = RunFolder.open(options.out, options.resume === true);
  try {
    const trained = await trainInto(folder, options, on);
    if (trained.finished) folder.finish();
    else if (trained.resumable === null) folder.abandon();
    return trained;
  } catch (error) {
    // Without a checkpoint, what is there would only be in the way of the next try.
    if (folder.checkpoints.last === null) folder.abandon();
    throw error;
  }
}

async function trainInto(folder: RunFolder, options: TrainOptions, on: TrainingOnlookers): Promise<TrainedSae> {
  const { onNotice = () => {}, onShare = () => {}, signal } = on;
  const checkpoint = options.resume === true ? folder.checkpoints.read() : null;
  using model = await LabModel.open(options.model, [options.hook], on);
  const columns = new HookColumns(model, model.hooks[0]!, options.head ?? null);
  const config = trainingConfig(options, model, columns);
  checkTraining(config);
  const environment = trainingEnvironment(model.device, model.threads);
  if (checkpoint !== null) {
    checkSameRun(checkpoint.config, config);
    const notice = environmentNotice(checkpoint.environment, environment);
    if (notice !== null) onNotice(notice);
  }
  let made = checkpoint?.state.step ?? 0;
  on.onPlan?.(trainingPlan(config, made));

  const curve = new TrainingCurve(folder.file("curve.jsonl"), made);
  const trained = (finished: boolean): TrainedSae => {
    return { config, steps: made, finished, resumable: folder.checkpoints.last, curve: curve.lines };
  };
  const rows = { model, columns, config, options, onNotice, signal };
  const { batch } = config.step;
  try {
    using buffer = await ShuffleBuffer.open(folder.rows, openRows(rows, "train"), {
      ...{ vectors: config.buffer, batch, seed: config.seed, resumed: checkpoint?.source, onNotice },
    });
    const batches = new PeekableBatches(buffer, batch * columns.width);
    const state =
      checkpoint?.state ?? newState(config.step, initialWeights(config.step, await batches.peek(), config.seed));
    using step = openStep(config.step, state, { threads: model.threads, device: model.device });
    await train(config, step, batches, {
      onStep(number, result) {
        made = number;
        curve.add(number, number * batch, result);
        on.onStep?.(number, result);
      },
      goesOn() {
        if (buffer.atRefill) {
          folder.checkpoints.write({ config, environment, state: finiteState(step), source: buffer.state() });
          buffer.checkpointed();
        }
        return signal?.aborted !== true;
      },
    });
    if (signal?.aborted === true && made < stepsOf(config)) return trained(false);
    if (made < stepsOf(config))
      onNotice(
        `the text gave ${made * batch} rows of the ${config.tokens} that --tokens asks for: training ended with them, before the learning rate had fallen; --passes reads it again, fewer --tokens end where it does`,
      );
    await finishTraining({ ...rows, folder, step, curve, onShare });
    return trained(true);
  } catch (error) {
    if (signal?.aborted === true && error === signal.reason) return trained(false);
    throw error;
  }
}
