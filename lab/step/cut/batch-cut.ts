import type { TrainedActivation } from "../step-config.js";
import type { CutThreads } from "./cut-threads.js";
import { kthLargest } from "./kth-largest.js";
import type { RowRule } from "./row-cutter.js";

/** Rows look first at what is larger than what this share of the last batch's rows has kept at least. */
const ROWS_BELOW = 0.1;
/** And a little below. */
const HINT = 0.8;

/** Cuts batches as an activation asks, row by row or all rows together. */
export class BatchCut {
  /** Smaller activations are left out at first; it changes no result. */
  #hint = 0;

  constructor(
    readonly threads: CutThreads,
    readonly activation: Exclude<TrainedActivation, { kind: "jumprelu" }>,
  ) {}

  /** Writes `kept` and what is counted, of the activations of a batch. */
  cut(): void {
    const { threads } = this;
    threads.arrays.fired.fill(0);
    threads.run({ kind: "cut", rule: this.#rule() });
    const least = Float32Array.from(threads.arrays.least).sort();
    this.#hint = HINT * (least[Math.floor(ROWS_BELOW * least.length)] ?? 0);
  }

  #rule(): RowRule {
    const { activation, threads } = this;
    const hint = this.#hint;
    switch (activation.kind) {
      case "top-afa":
        return { kind: "top-afa", hint, longest: threads.arrays.norms.reduce((a, b) => Math.max(a, b), 0) };
      case "topk":
        return { kind: "topk", hint, k: activation.k };
      case "batch-topk":
        return { kind: "threshold", threshold: this.#batchThreshold(activation.k * threads.sizes.batch) };
    }
  }

  /** The smallest of so many largest activations of the batch; 0 where not as many are above 0. */
  #batchThreshold(places: number): number {
    const hinted = this.#collect(this.#hint);
    const { values, count } = hinted.count < places && this.#hint > 0 ? this.#collect(0) : hinted;
    return count < places ? 0 : kthLargest(values, places);
  }

  #collect(least: number): { readonly values: readonly Float32Array[]; readonly count: number } {
    const { threads } = this;
    const { batch, dSae } = threads.sizes;
    const { collected, collectedCounts } = threads.arrays;
    threads.run({ kind: "collect", least });
    const values = Array.from(collectedCounts, (found, thread) => {
      const first = Math.floor((thread * batch) / threads.threads) * dSae;
      return collected.subarray(first, first + found);
    });
    return { values, count: values.reduce((sum, { length }) => sum + length, 0) };
  }
}
