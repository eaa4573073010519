import { setImmediate } from "node:timers/promises";
import { SetupError } from "../../runtime/contract/errors.js";
import { allFinite } from "../activations/hook-columns.js";
import type { TrainingState } from "../step/sae-state.js";
import type { StepResult, TrainingStep } from "../step/training-step.js";
import { learningRateAt, sparsityAt, stepsOf, type TrainingConfig } from "./training-config.js";

/** Where the rows of a training come from. */
export interface BatchSource {
  /** Writes the next batch [batch, dIn]; false: there is none. */
  next(into: Float32Array): Promise<boolean>;
}

export interface TrainerHooks {
  /** After every step, by its number from 1. */
  readonly onStep?: (step: number, result: StepResult) => void;
  /** After every step and `onStep`; the run ends early where it gives false. */
  readonly goesOn?: (step: number) => boolean | Promise<boolean>;
}

/**
 * Trains from the step's state on, to the last step of its configuration or of the source.
 * @returns the number of steps that were made in all
 * @throws SetupError naming the step whose losses are not finite
 */
export async function train(
  config: TrainingConfig,
  step: TrainingStep,
  source: BatchSource,
  { onStep, goesOn }: TrainerHooks = {},
): Promise<number> {
  const { batch, dIn } = config.step;
  const rows = new Float32Array(batch * dIn);
  const last = stepsOf(config);
  let made = step.made;
  while (made < last && (await source.next(rows))) {
    await setImmediate(); // signals are heard between steps
    const number = made + 1;
    const rate = { learningRate: learningRateAt(config, number), sparsity: sparsityAt(config, number) };
    const result = step.run(rows, rate);
    if (!Number.isFinite(result.total)) throw notFinite(number, rate.learningRate);
    made = number;
    onStep?.(number, result);
    if (goesOn && !(await goesOn(number))) break;
  }
  return made;
}

/**
 * The state of a step, of which all numbers are finite: the last update may have made others, whatever its losses were.
 * @throws SetupError naming the step and the tensor
 */
export function finiteState(step: TrainingStep): TrainingState {
  const state = step.state();
  for (const [name, values] of state.tensors)
    if (!allFinite(values))
      throw new SetupError(
        `step ${state.step} has made numbers of ${name} that are not finite: the hook holds numbers too large for it, or the learning rate is too high (--lr)`,
      );
  return state;
}

const notFinite = (step: number, learningRate: number): SetupError =>
  new SetupError(
    `the loss of step ${step} is not finite (learning rate ${learningRate}): the hook holds numbers too large for it, or the rate is too high (--lr)`,
  );
