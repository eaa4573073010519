import type { TrainingState } from "./sae-state.js";
import type { StepConfig } from "./step-config.js";

/** What one step was told of. Losses are those before the step; `total` is their sum. */
export interface StepResult {
  /** Of the normalised input: mean over rows and dimensions, of jumprelu too. */
  readonly mse: number;
  /** Share of the variance of the normalised input that is not explained, over this batch. */
  readonly unexplained: number;
  /** Sum of the errors of all levels of a Matryoshka SAE but the last, 0 elsewhere. */
  readonly inner: number;
  /** Loss of lengths (top-AFA), 0 elsewhere. */
  readonly afa: number;
  /** Loss of dead features, 0 where there are none. */
  readonly aux: number;
  /** Loss of L0 (jumprelu), 0 elsewhere. */
  readonly l0Loss: number;
  readonly total: number;
  /** Mean number of kept features. */
  readonly l0: number;
  /** The batch's smallest kept activation; 0 where nothing is kept. */
  readonly leastKept: number;
  /** Features that are dead. */
  readonly dead: number;
}

/** One SAE in training: its state, and what makes the next one of it. */
export interface TrainingStep extends Disposable {
  readonly config: StepConfig;
  /** Steps that were made so far, before it was opened as well. */
  readonly made: number;
  /** @param x [batch, dIn] as the hook holds it */
  run(x: Float32Array, rate: StepRate): StepResult;
  state(): TrainingState;
  /** Activations of rows before the cut, [batch, dSae], until the next run; not of jumprelu. @param x as of `run` */
  activations?(x: Float32Array): Float32Array;
}

/** What changes from step to step. */
export interface StepRate {
  readonly learningRate: number;
  /** Share of the coefficient of jumprelu's L0 loss that counts by now. */
  readonly sparsity?: number;
}

/** How far the running threshold of batch top-k goes towards the smallest kept activation of a batch: SAELens 6.54's rate. */
const THRESHOLD_RATE = 0.01;

/** The running threshold of batch top-k after another batch, which has kept this much at least. */
export const followed = (threshold: number | null, leastKept: number): number =>
  (1 - THRESHOLD_RATE) * (threshold ?? leastKept) + THRESHOLD_RATE * leastKept;

/** Batches since each feature was active last, after another. @returns the features that are dead now, in rising order */
export function countIdle(idle: Uint32Array, fired: ArrayLike<number>, after: number, dead: Uint32Array): number {
  let count = 0;
  for (let feature = 0; feature < idle.length; feature++) {
    idle[feature] = fired[feature]! > 0 ? 0 : idle[feature]! + 1;
    if (idle[feature]! >= after) dead[count++] = feature;
  }
  return count;
}
