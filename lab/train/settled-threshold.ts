import { kthLargest } from "../step/cut/kth-largest.js";
import type { TrainingStep } from "../step/training-step.js";
import type { BatchSource } from "./trainer.js";

/** Rows by which a threshold is settled. */
const ROWS = 100_000;
/** Activations below this share of the running threshold are not looked at: many are hardly above 0. */
const HINT = 0.25;

/** The threshold of a batch top-k, and how it came about. */
export interface SettledThreshold {
  readonly threshold: number;
  /** Held-out rows that it was settled by; 0: it is the running one of the training. */
  readonly rows: number;
}

/**
 * The threshold at which held-out rows keep k features in the mean. A feature is kept above it, not at it.
 * @param running the training's own running threshold, which stands where too little is held out
 */
export async function settledThreshold(
  step: TrainingStep,
  k: number,
  running: number,
  heldOut: BatchSource,
): Promise<SettledThreshold> {
  const { batch, dIn } = step.config;
  const x = new Float32Array(batch * dIn);
  const values: Float32Array[] = [];
  let rows = 0;
  for (; rows < ROWS && (await heldOut.next(x)); rows += batch)
    values.push(step.activations?.(x).filter((value) => value > HINT * running) ?? new Float32Array());
  const places = Math.round(k * rows);
  const found = values.reduce((sum, { length }) => sum + length, 0);
  if (rows === 0 || found < places) return { threshold: running, rows: 0 };
  return { threshold: below(kthLargest(values, places)), rows };
}

/** The next smaller float32 of a positive one. */
function below(value: number): number {
  const bits = new Int32Array(Float32Array.of(value).buffer);
  bits[0]! -= 1;
  return new Float32Array(bits.buffer)[0] ?? 0;
}
