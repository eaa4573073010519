import type { HookName } from "../../models/hooks.js";
import type { LabSae } from "../model/open-saes.js";
import type { EpsLbo } from "./eps-lbo.js";
import type { FeatureDensities } from "./feature-counts.js";
import type { Reconstruction } from "./reconstruction.js";
import type { MeanLosses } from "./token-means.js";
import type { WeightFigures } from "./weight-figures.js";
import type { ZfPlot } from "./zf-plot.js";

/**
 * What a place is set to, to see what it is worth. zero: zeros at the counted tokens, so that the first tokens keep their
 * residual as they do when they are spliced; mean: the mean vector of the counted tokens of the clean run, there; zeroEverywhere: zeros
 * at all tokens, the first ones too, which is what sae-lens and SAEBench do.
 */
export type Ablation = "zero" | "mean" | "zeroEverywhere";
export const ABLATIONS = ["zero", "mean", "zeroEverywhere"] as const satisfies readonly Ablation[];
export type Ablated = Readonly<Record<Ablation, MeanLosses>>;

/** How much of what an ablation costs is not lost: 1 where nothing is. */
export interface Recovered {
  /** (ce of the ablated run - ce) / (ce of the ablated run - clean ce). */
  readonly ce: number;
  /** (kl of the ablated run - kl) / kl of the ablated run. */
  readonly kl: number;
}

/** Losses of the model with its residuals replaced by reconstructions, and what they recover. */
export interface Spliced extends MeanLosses {
  readonly recovered: Readonly<Record<Ablation, Recovered>>;
}

/** All that is said of one SAE. */
export interface SaeEvaluation {
  readonly sae: LabSae;
  readonly reconstruction: Reconstruction;
  readonly features: FeatureDensities;
  readonly weights: WeightFigures;
  readonly epsLbo: EpsLbo;
  readonly zf: ZfPlot;
  readonly spliced: Spliced;
  readonly ablated: Ablated;
  readonly byContext: {
    readonly mse: readonly number[];
    readonly l0: readonly number[];
    readonly cosine: readonly number[];
  };
}

/** All SAEs spliced in one pass, each seeing the residual that the ones before have left. */
export interface AllLayers {
  readonly spliced: Spliced;
  /** Against the residual that came in, in the order of the layers. */
  readonly inside: readonly { readonly sae: LabSae; readonly reconstruction: Reconstruction }[];
}

export interface Evaluation {
  /** Tokens of a context before this are not counted. */
  readonly skipStart: number;
  readonly contexts: number;
  /** Counted tokens, and those of them that have a next token. */
  readonly tokens: number;
  readonly predicted: number;
  /** Mean -log p of the next token without any SAE, nat. */
  readonly clean: { readonly ce: number; readonly byContext: readonly number[] };
  readonly saes: readonly SaeEvaluation[];
  /** [d] of each place: the mean of the counted tokens. */
  readonly means: ReadonlyMap<HookName, Float64Array>;
  /** null where it was not asked for. */
  readonly allLayers: AllLayers | null;
}

/** @param clean ce of the run without SAEs */
export function recovered(spliced: MeanLosses, ablated: Ablated, clean: number): Spliced {
  const of = ({ ce, kl }: MeanLosses): Recovered => ({
    ce: (ce - spliced.ce) / (ce - clean),
    kl: (kl - spliced.kl) / kl,
  });
  const { zero, mean, zeroEverywhere } = ablated;
  return { ...spliced, recovered: { zero: of(zero), mean: of(mean), zeroEverywhere: of(zeroEverywhere) } };
}
