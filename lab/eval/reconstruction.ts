import type { CodedRows } from "../../runtime/saes/sae-coder.js";
import { VarianceSum } from "../../runtime/saes/variance-sum.js";
import type { TokenFigures } from "./token-figures.js";

/**
 * How well an SAE reconstructs its place, and with how many features. N counted tokens, d the width of the place; x, x', xn,
 * y and f as in `TokenFigures`. All sums run over all counted tokens of all contexts, never over batches first.
 */
export interface Reconstruction {
  readonly tokens: number;
  /** Sum of |x - x'|^2 by N d. SAEBench 0.6.0 divides by the tokens of a batch once too often. */
  readonly mse: number;
  /** Sum of |x - x'|^2 by N: what sae-lens 6.54 calls mse. */
  readonly mseSum: number;
  /** Sum of |xn - y|^2 by N d: the loss of the trainer, where the SAE normalises. */
  readonly mseNormalised: number;
  /**
   * Sum of |x - x'|^2 by sum of |x - mean|^2, the mean being that of the counted tokens; raw scale. sae-lens 6.54 computes the
   * same; SAEBench 0.6.0 takes the square of a mean of squares for the squares of the means, so its units do not match.
   */
  readonly unexplainedVariance: number;
  /** 1 - unexplained variance. */
  readonly explainedVariance: number;
  /** The same of xn and y. */
  readonly explainedVarianceNormalised: number;
  /**
   * Mean over tokens of 1 - |x - x'|^2 / |x - mean|^2, the mean being that of the tokens that were run together: what SAEBench
   * calls legacy. It is wrong: tokens near the mean weigh most, and it depends on the batch. Here for its JSON alone.
   */
  readonly explainedVarianceLegacy: number;
  /** Mean of x . x' / (|x| |x'|). */
  readonly cosine: number;
  /** Mean of |x|; of |x'|; of |x'| / |x|, which is not the ratio of the two before. */
  readonly l2NormIn: number;
  readonly l2NormOut: number;
  readonly l2Ratio: number;
  /**
   * Sum of |x'|^2 by sum of x . x' (arXiv 2404.16014, equation 10: one quotient of expectations). sae-lens and SAEBench print
   * the mean over batches of the quotient of each.
   */
  readonly relativeReconstructionBias: number;
  /** Mean number of features that are not 0, after the SAE's own cut. */
  readonly l0: number;
  /** Mean sum of activations, in the SAE's own scale and without decoder norms. */
  readonly l1: number;
  /** Mean cut of top-AFA, places that hold 0 included; null for SAEs of another kind. */
  readonly k: number | null;
}

/** Adds up what `Reconstruction` is made of. */
export class ReconstructionSums {
  /** Of x, and of xn. */
  readonly #raw: VarianceSum;
  readonly #normalised: VarianceSum;
  #sums = { error: 0, normalisedError: 0, cosine: 0, in: 0, out: 0, ratio: 0, squaresOut: 0, product: 0, l0: 0, l1: 0 };
  #legacy = 0;
  #cuts: number | null = null;

  constructor(private readonly width: number) {
    this.#raw = new VarianceSum(width);
    this.#normalised = new VarianceSum(width);
  }

  get tokens(): number {
    return this.#raw.count;
  }

  /** Sum of (x - x')^2 by sum of (x - mean)^2. */
  get unexplainedVariance(): number {
    return this.#sums.error / this.#raw.total;
  }

  /** @param x [tokens, d] counted tokens, and what was made of them */
  add(x: Float32Array, codes: CodedRows, figures: TokenFigures): void {
    this.#raw.add(x);
    this.#normalised.add(x, codes);
    const sums = this.#sums;
    for (let t = 0; t < figures.tokens; t++) {
      sums.error += figures.errors[t]!;
      sums.normalisedError += figures.normalisedErrors[t]!;
      sums.cosine += figures.cosines[t]!;
      sums.in += figures.lengths[t]!;
      sums.out += figures.lengthsOut[t]!;
      sums.ratio += figures.ratios[t]!;
      sums.squaresOut += figures.lengthsOut[t]! ** 2;
      sums.product += figures.products[t]!;
      sums.l0 += figures.l0[t]!;
      sums.l1 += figures.l1[t]!;
      if (figures.cuts !== null) this.#cuts = (this.#cuts ?? 0) + figures.cuts[t]!;
    }
    this.#legacy += legacySum(x, figures.errors, this.width);
  }

  get result(): Reconstruction {
    const { tokens, width } = this;
    const sums = this.#sums;
    return {
      tokens,
      mse: sums.error / (tokens * width),
      mseSum: sums.error / tokens,
      mseNormalised: sums.normalisedError / (tokens * width),
      unexplainedVariance: this.unexplainedVariance,
      explainedVariance: 1 - this.unexplainedVariance,
      explainedVarianceNormalised: 1 - sums.normalisedError / this.#normalised.total,
      explainedVarianceLegacy: this.#legacy / tokens,
      cosine: sums.cosine / tokens,
      l2NormIn: sums.in / tokens,
      l2NormOut: sums.out / tokens,
      l2Ratio: sums.ratio / tokens,
      relativeReconstructionBias: sums.squaresOut / sums.product,
      l0: sums.l0 / tokens,
      l1: sums.l1 / tokens,
      k: this.#cuts === null ? null : this.#cuts / tokens,
    };
  }
}

function legacySum(x: Float32Array, errors: Float64Array, width: number): number {
  const batch = new VarianceSum(width);
  batch.add(x);
  const { mean } = batch;
  let sum = 0;
  for (let t = 0; t < errors.length; t++) {
    let distance = 0;
    for (let i = 0; i < width; i++) distance += (x[t * width + i]! - mean[i]!) ** 2;
    sum += 1 - errors[t]! / distance;
  }
  return sum;
}
