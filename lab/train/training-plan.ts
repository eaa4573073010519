import { ShuffleBuffer } from "../activations/shuffle-buffer.js";
import { stepsOf, type TrainingConfig } from "./training-config.js";

/** What a training will take. */
export interface TrainingPlan {
  readonly config: TrainingConfig;
  readonly steps: number;
  /** Steps that were made before; 0: it is no resumed run. */
  readonly made: number;
  /** Bytes, at most; memory without the model's. */
  readonly disk: number;
  readonly memory: number;
}

const FLOAT = Float32Array.BYTES_PER_ELEMENT;
/** Numbers of a step for each row and feature: activations, what is kept of them, and what gradients pass through. */
const OF_ROWS = 8;
/** Numbers for each weight: two states of three numbers, the gradient, and what is on the way between them. */
const OF_WEIGHTS = 12;
/** A checkpoint, and the one before while it is written. */
const CHECKPOINTS = 2;
const OF_STATE = 3;

/** What a training will take, before it takes it. */
export function trainingPlan(config: TrainingConfig, made: number): TrainingPlan {
  const { dIn, dSae, batch } = config.step;
  const buffer = ShuffleBuffer.needs({ vectors: config.buffer, width: dIn });
  const weights = 2 * dIn * dSae * FLOAT;
  return {
    ...{ config, steps: stepsOf(config), made },
    disk: buffer.disk + CHECKPOINTS * OF_STATE * weights,
    memory: buffer.memory + OF_WEIGHTS * weights + OF_ROWS * batch * dSae * FLOAT,
  };
}
