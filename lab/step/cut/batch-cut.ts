import type { TrainedActivation } from "../step-config.js";
import type { CutThreads } from "./cut-threads.js";
import { kthLargest } from "./kth-largest.js";
import type { RowRule } from "./row-cutter.js";

/** Where batch top-k looks first: above this share of the last threshold. */
const HINT = 0.7;

/** Cuts batches as an activation asks, row by row or all rows together. */
export class BatchCut {
  /** The smallest activation that the last batch top-k has kept: a hint only, which changes no result. */
  #last = 0;

  constructor(
    readonly threads: CutThreads,
    readonly activation: Exclude<TrainedActivation, { kind: "jumprelu" }>,
  ) {}

  /** Writes `kept` and what is counted, of the activations of a batch. */
  cut(): void {
    const { threads, activation } = this;
    threads.arrays.fired.fill(0);
    threads.run({ kind: "cut", rule: this.#rule(activation) });
  }

  #rule(activation: BatchCut["activation"]): RowRule {
    if (activation.kind !== "batch-topk") return activation;
    this.#last = this.#batchThreshold(activation.k * this.threads.sizes.batch);
    return { kind: "threshold", threshold: this.#last };
  }

  /** The smallest of so many largest activations of the batch; 0 where not as many are above 0. */
  #batchThreshold(places: number): number {
    const hinted = this.#collect(this.#last * HINT);
    const { values, count } = hinted.count < places && this.#last > 0 ? this.#collect(0) : hinted;
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
