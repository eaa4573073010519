import { fitLogistic, type LogisticModel } from "./logistic-regression.js";

/** The features of a text: the mean of each feature's activation over the text's tokens. Those not named are 0. */
export interface TextFeatures {
  /** In any order, none twice. */
  readonly features: Uint32Array;
  readonly means: Float64Array;
}

/** Texts and whether each belongs to the class that is probed for. */
export interface ProbeSet {
  readonly texts: readonly TextFeatures[];
  readonly isPositive: readonly boolean[];
}

export interface SparseProbe {
  readonly k: number;
  /** Numbers of the features that it reads, the most telling first. */
  readonly features: readonly number[];
  /** One for each feature. */
  readonly coefficients: readonly number[];
  readonly intercept: number;
  readonly trainAccuracy: number;
  readonly testAccuracy: number;
}

/** Penalty of logistic regressions in sparse probing: that of Gurnee et al. 2023, arXiv 2305.01610, and of scikit-learn. */
const C = 1;

/**
 * [dSae] What features tell of a class: the mean over texts of the class minus that over the others.
 * @param dSae number of the SAE's features
 */
export function meanDifferences({ texts, isPositive }: ProbeSet, dSae: number): Float64Array {
  const sums = [new Float64Array(dSae), new Float64Array(dSae)] as const;
  const counts = [0, 0];
  for (const [n, { features, means }] of texts.entries()) {
    const side = isPositive[n] ? 1 : 0;
    counts[side]! += 1;
    for (const [i, feature] of features.entries()) sums[side][feature]! += means[i]!;
  }
  return sums[1].map((sum, feature) => sum / counts[1]! - sums[0][feature]! / counts[0]!);
}

/**
 * Probes that read k features each: those of the largest absolute difference of means over the training texts (of equal ones the
 * lower number), and a logistic regression on their values as they are, with C = 1. The protocol of sparse probing (Gurnee et al.
 * 2023, arXiv 2305.01610) in the form that SAEs are judged by (Karvonen et al. 2025, SAEBench, arXiv 2503.09532).
 * @param ks each at most dSae
 */
export function sparseProbes(train: ProbeSet, test: ProbeSet, dSae: number, ks: readonly number[]): SparseProbe[] {
  const strengths = meanDifferences(train, dSae).map(Math.abs);
  const ranking = Array.from(strengths.keys()).sort((a, b) => strengths[b]! - strengths[a]! || a - b);
  return ks.map((k) => {
    const features = ranking.slice(0, k);
    const samples = valuesOf(train, features);
    const model = fitLogistic({ samples, isPositive: train.isPositive, c: C });
    return {
      k,
      features,
      coefficients: [...model.weights],
      intercept: model.intercept,
      trainAccuracy: accuracy(model, samples, train.isPositive),
      testAccuracy: accuracy(model, valuesOf(test, features), test.isPositive),
    };
  });
}

/** [texts][features] */
function valuesOf({ texts }: ProbeSet, chosen: readonly number[]): Float64Array[] {
  const places = new Map(chosen.map((feature, place) => [feature, place]));
  return texts.map(({ features, means }) => {
    const values = new Float64Array(chosen.length);
    for (const [i, feature] of features.entries()) {
      const place = places.get(feature);
      if (place !== undefined) values[place] = means[i]!;
    }
    return values;
  });
}

function accuracy(
  { weights, intercept }: LogisticModel,
  samples: readonly Float64Array[],
  isPositive: readonly boolean[],
): number {
  const right = samples.filter((sample, n) => {
    const logit = sample.reduce((sum, value, i) => sum + value * weights[i]!, intercept);
    return logit > 0 === isPositive[n];
  });
  return right.length / samples.length;
}
