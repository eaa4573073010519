import { kthLargest } from "../step/cut/kth-largest.js";
import type { TrainingStep } from "../step/training-step.js";
import type { BatchSource } from "./trainer.js";

/** Rows by which a threshold is settled. */
const ROWS = 100_000;
/** Smaller shares of the running threshold are looked at only where that is not enough: most activations are hardly above 0. */
const HINTS = [0.25, 0];

/** The threshold of a batch top-k, and how it came about. */
export interface SettledThreshold {
  readonly threshold: number;
  /** Held-out rows that it was settled by; 0: it is the running one of the training. */
  readonly rows: number;
}

/**
 * The threshold at which held-out rows keep k features in the mean; 0 where they have fewer above 0. A feature is kept above
 * it, not at it.
 * @param running the training's own running threshold, which stands where no batch is held out
 * @param heldOut opens the held-out rows, which may be read twice
 */
export async function settledThreshold(
  step: TrainingStep,
  k: number,
  running: number,
  heldOut: () => Promise<BatchSource>,
): Promise<SettledThreshold> {
  let rows = 0;
  for (const hint of HINTS) {
    const large = await largeActivations(step, hint * running, await heldOut());
    rows = large.rows;
    const places = Math.round(k * rows);
    const found = large.values.reduce((sum, { length }) => sum + length, 0);
    if (rows === 0) return { threshold: running, rows };
    if (found >= places) return { threshold: below(kthLargest(large.values, places)), rows };
  }
  return { threshold: 0, rows };
}

async function largeActivations(step: TrainingStep, above: number, heldOut: BatchSource) {
  const { batch, dIn } = step.config;
  const x = new Float32Array(batch * dIn);
  const values: Float32Array[] = [];
  let rows = 0;
  for (; rows < ROWS && (await heldOut.next(x)); rows += batch)
    values.push(step.activations?.(x).filter((value) => value > above) ?? new Float32Array());
  return { values, rows };
}

/** The next smaller float32 of a positive one. */
function below(value: number): number {
  const bits = new Int32Array(Float32Array.of(value).buffer);
  bits[0]! -= 1;
  return new Float32Array(bits.buffer)[0] ?? 0;
}
