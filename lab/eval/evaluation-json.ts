import { EPS_LBO_QUANTILES } from "./eps-lbo.js";
import {
  ABLATIONS,
  type Ablated,
  type AllLayers,
  type Evaluation,
  type SaeEvaluation,
  type Spliced,
} from "./evaluation.js";
import { DENSITY_EDGES } from "./feature-counts.js";
import type { Reconstruction } from "./reconstruction.js";
import type { MeanLosses } from "./token-means.js";
import { ZF_BANDS } from "./zf-plot.js";

/** All that an evaluation says but for single features and points; numbers that are none become null in JSON. */
export const evaluationJson = (evaluation: Evaluation) => ({
  ...maskJson(evaluation),
  clean: { ce: evaluation.clean.ce, by_context: { ce: evaluation.clean.byContext } },
  saes: Object.fromEntries(evaluation.saes.map((sae) => [sae.sae.id, saeJson(sae)])),
  all_layers: evaluation.allLayers === null ? null : allLayersJson(evaluation.allLayers),
});

/** What is counted. */
export const maskJson = ({ skipStart, contexts, tokens, predicted }: Evaluation) => ({
  skip_start: skipStart,
  contexts,
  tokens,
  predicted_tokens: predicted,
});

/** Of one SAE. */
export function saeJson(evaluation: SaeEvaluation) {
  const { sae, reconstruction, features, weights, epsLbo, zf, spliced, ablated, byContext } = evaluation;
  const { counts: _, contexts: __, densities: ___, ...shares } = features;
  return {
    hook: sae.hook,
    d_sae: sae.compiled.description.dSae,
    content: sae.compiled.content,
    ...reconstructionJson(reconstruction),
    alive: shares.alive,
    alive_share: shares.aliveShare,
    never_active: shares.neverActive,
    histogram_edges: DENSITY_EDGES,
    density_histogram: shares.histogram,
    freq_over_1_percent: shares.over1Percent,
    freq_over_10_percent: shares.over10Percent,
    normalized_freq_over_1_percent: shares.weightOver1Percent,
    normalized_freq_over_10_percent: shares.weightOver10Percent,
    average_max_decoder_cosine: mean(weights.largestDecoderCosines),
    average_max_encoder_cosine: mean(weights.largestEncoderCosines),
    eps_lbo: {
      without: epsLbo.without,
      mean: epsLbo.mean,
      at: EPS_LBO_QUANTILES,
      quantiles: epsLbo.quantiles,
    },
    zf_inside: Object.fromEntries(ZF_BANDS.map((band, i) => [band, zf.inside[i]])),
    ...splicedJson(spliced),
    ablated: ablatedJson(ablated),
    by_context: { ...byContext, ...spliced.byContext },
  };
}

/** Of all SAEs spliced in one pass. */
export const allLayersJson = ({ spliced, inside }: AllLayers) => ({
  ...splicedJson(spliced),
  by_context: spliced.byContext,
  inside: Object.fromEntries(inside.map(({ sae, reconstruction }) => [sae.id, reconstructionJson(reconstruction)])),
});

const reconstructionJson = (of: Reconstruction) => ({
  mse: of.mse,
  mse_sum: of.mseSum,
  mse_normalised: of.mseNormalised,
  explained_variance: of.explainedVariance,
  unexplained_variance: of.unexplainedVariance,
  explained_variance_normalised: of.explainedVarianceNormalised,
  cosine: of.cosine,
  l2_norm_in: of.l2NormIn,
  l2_norm_out: of.l2NormOut,
  l2_ratio: of.l2Ratio,
  relative_reconstruction_bias: of.relativeReconstructionBias,
  l0: of.l0,
  l1: of.l1,
  ...(of.k === null ? {} : { k: of.k }),
});

/** As the names of ablations are spelled. */
const NAMES = { zero: "zero", mean: "mean", zeroEverywhere: "zero_everywhere" } as const;

const splicedJson = ({ ce, kl, recovered }: Spliced) => ({
  ce,
  kl,
  ...Object.fromEntries(
    ABLATIONS.flatMap((ablation) => [
      [`ce_recovered_${NAMES[ablation]}`, recovered[ablation].ce],
      [`kl_recovered_${NAMES[ablation]}`, recovered[ablation].kl],
    ]),
  ),
});

function ablatedJson(ablated: Ablated) {
  const losses = ({ ce, kl }: MeanLosses) => ({ ce, kl });
  return Object.fromEntries(ABLATIONS.map((ablation) => [NAMES[ablation], losses(ablated[ablation])]));
}

export const mean = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
