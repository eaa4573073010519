import type { Codes } from "../../runtime/saes/sae-coder.js";

/** Edges of the histogram of densities, log10: 28 bins of a quarter, from 1e-7 to 1. */
export const DENSITY_EDGES: readonly number[] = Array.from({ length: 29 }, (_, bin) => -7 + bin / 4);

/** How often features are active at counted tokens. */
export interface FeatureDensities {
  /** [h] counted tokens at which each is not 0, contexts in which it is, and the share of tokens. */
  readonly counts: Float64Array;
  readonly contexts: Float64Array;
  readonly densities: Float64Array;
  /** Features that are active at some counted token, their share of all, and how many are at none. */
  readonly alive: number;
  readonly aliveShare: number;
  readonly neverActive: number;
  /** Alive features by the log10 of their density, in the bins of `DENSITY_EDGES`; what lies below the first is in it. */
  readonly histogram: readonly number[];
  /** Shares of all features whose density is above 1 % and 10 %. */
  readonly over1Percent: number;
  readonly over10Percent: number;
  /** The sum of their densities by the sum of all. */
  readonly weightOver1Percent: number;
  readonly weightOver10Percent: number;
}

/** Counts the features of coded tokens. */
export class FeatureCounts {
  readonly #counts: Float64Array;
  readonly #contexts: Float64Array;
  /** [h] the last context in which each was active. */
  readonly #last: Float64Array;
  #tokens = 0;

  constructor(private readonly dSae: number) {
    this.#counts = new Float64Array(dSae);
    this.#contexts = new Float64Array(dSae);
    this.#last = new Float64Array(dSae).fill(-1);
  }

  /** @param contextOf the number of each token's context, which never falls */
  add({ rows, starts, features }: Codes, contextOf: (row: number) => number): void {
    for (let row = 0; row < rows; row++) {
      const context = contextOf(row);
      for (let i = starts[row]!; i < starts[row + 1]!; i++) {
        const feature = features[i]!;
        this.#counts[feature]! += 1;
        if (this.#last[feature] !== context) this.#contexts[feature]! += 1;
        this.#last[feature] = context;
      }
    }
    this.#tokens += rows;
  }

  get result(): FeatureDensities {
    const { dSae } = this;
    const densities = this.#counts.map((count) => count / this.#tokens);
    const alive = this.#counts.reduce((sum, count) => sum + (count > 0 ? 1 : 0), 0);
    const above = (limit: number) => densities.filter((density) => density > limit);
    const sumOf = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0);
    return {
      counts: this.#counts,
      contexts: this.#contexts,
      densities,
      alive,
      aliveShare: alive / dSae,
      neverActive: dSae - alive,
      histogram: histogramOf(densities),
      over1Percent: above(0.01).length / dSae,
      over10Percent: above(0.1).length / dSae,
      weightOver1Percent: sumOf(above(0.01)) / sumOf(densities),
      weightOver10Percent: sumOf(above(0.1)) / sumOf(densities),
    };
  }
}

function histogramOf(densities: Float64Array): number[] {
  const bins = DENSITY_EDGES.slice(1).map(() => 0);
  for (const density of densities) {
    if (density === 0) continue;
    const bin = Math.floor((Math.log10(density) + 7) * 4);
    bins[Math.min(Math.max(bin, 0), bins.length - 1)]! += 1;
  }
  return bins;
}
