import type { CuttingStep } from "../step/cutting-step.js";
import { kthLargest } from "../step/cut/kth-largest.js";
import type { BatchSource } from "./trainer.js";

/** Rows by which a threshold is settled. */
const ROWS = 100_000;
/** Activations below this share of the running threshold are not kept in mind. */
const HINT = 0.5;

/** The threshold of a batch top-k, and how it came about. */
export interface SettledThreshold {
  readonly threshold: number;
  /** Held-out rows that it was settled by; 0: it is the running one of the training. */
  readonly rows: number;
}

/**
 * The threshold at which held-out rows keep k features in the mean. A feature is kept above it, not at it.
 * @param running the training's own running threshold, which stands where no batch is held out
 */
export async function settledThreshold(
  step: CuttingStep,
  k: number,
  running: number,
  heldOut: BatchSource,
): Promise<SettledThreshold> {
  const { batch, dIn } = step.config;
  const x = new Float32Array(batch * dIn);
  const large: Float32Array[] = [];
  const all: Float32Array[] = [];
  let rows = 0;
  for (; rows < ROWS && (await heldOut.next(x)); rows += batch) {
    const values = step.activations(x);
    large.push(values.filter((value) => value > HINT * running));
    if (count(large) < k * (rows + batch)) all.push(values.filter((value) => value > 0));
  }
  if (rows === 0) return { threshold: running, rows };
  const places = Math.round(k * rows);
  const values = count(large) >= places ? large : all;
  const threshold = count(values) < places ? 0 : below(kthLargest(values, places));
  return { threshold, rows };
}

const count = (values: readonly Float32Array[]): number => values.reduce((sum, { length }) => sum + length, 0);

/** The next smaller float32 of a positive one. */
function below(value: number): number {
  const bits = new Int32Array(Float32Array.of(value).buffer);
  bits[0]! -= 1;
  return new Float32Array(bits.buffer)[0] ?? 0;
}
