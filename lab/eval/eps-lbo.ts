import { quantile } from "../statistics/quantiles.js";
import { Reservoir } from "./reservoir.js";

/** Shares at which quantiles of eps_LBO are told. */
export const EPS_LBO_QUANTILES: readonly number[] = [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1];

/** Up to so many tokens quantiles are of all tokens; beyond, of a sample of so many. */
const MOST_TOKENS = 1 << 17;

/** How eps_LBO = | |z|^2 - |f|^2 | / ((h - 1) |f|^2) of counted tokens is distributed (arXiv 2503.24277). */
export interface EpsLbo {
  /** Tokens of which |f| is 0, which have none and are left out. */
  readonly without: number;
  /** NaN where no token has one. */
  readonly mean: number;
  /** At `EPS_LBO_QUANTILES`, with linear interpolation. */
  readonly quantiles: readonly number[];
  /** The values, or a sample of them where there are more than 131,072. */
  readonly values: Float64Array;
}

/** Collects eps_LBO of tokens. */
export class EpsLboSums {
  readonly #sample = new Reservoir(MOST_TOKENS);
  #sum = 0;
  #without = 0;
  #largest = Number.NEGATIVE_INFINITY;
  #smallest = Number.POSITIVE_INFINITY;

  add(values: Float64Array): void {
    for (const value of values) {
      if (Number.isNaN(value)) {
        this.#without++;
        continue;
      }
      this.#sum += value;
      this.#smallest = Math.min(this.#smallest, value);
      this.#largest = Math.max(this.#largest, value);
      this.#sample.add(value);
    }
  }

  get result(): EpsLbo {
    const values = this.#sample.values.toSorted();
    const hasAny = values.length > 0;
    return {
      without: this.#without,
      mean: this.#sum / this.#sample.seen,
      quantiles: EPS_LBO_QUANTILES.map((q) => {
        if (hasAny && q === 0) return this.#smallest;
        return hasAny && q === 1 ? this.#largest : quantile(values, q);
      }),
      values,
    };
  }
}
