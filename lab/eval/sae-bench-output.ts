import { createHash } from "node:crypto";
import { packageVersion } from "../../models/package-root.js";
import type { Evaluation, SaeEvaluation } from "./evaluation.js";
import { allLayersJson, maskJson, mean, saeJson } from "./evaluation-json.js";

/** What an evaluation was made of. */
export interface EvaluationAbout {
  readonly model: { readonly name: string; readonly content: string; readonly precision: string };
  /** The files and folders of the text, and which part of it. */
  readonly text: readonly string[];
  readonly part: string;
  readonly context: number;
}

/**
 * An evaluation of one SAE in the schema of SAEBench's core evaluation (sae_bench 0.6.0,
 * evals/core/eval_output_schema_core.json), with the definitions of this program: what is meant by each number is in
 * `Reconstruction` and `Evaluation`. Ablated is `zero`; mse is summed over dimensions, as sae-lens has it. All that the schema has
 * no place for is in `eval_result_unstructured`.
 * @param at when it was made, ms since 1970
 */
export function saeBenchOutput(evaluation: Evaluation, judged: SaeEvaluation, about: EvaluationAbout, at: number) {
  const { sae, reconstruction, features, weights, spliced, ablated } = judged;
  const { description, content } = sae.compiled;
  const settings = { ...about, ...maskJson(evaluation) };
  return {
    eval_type_id: "core",
    eval_config: {
      model_name: about.model.name,
      llm_dtype: about.model.precision,
      batch_size_prompts: 1,
      n_eval_reconstruction_batches: evaluation.contexts,
      n_eval_sparsity_variance_batches: evaluation.contexts,
      dataset: about.text.join(", "),
      context_size: about.context,
      compute_kl: true,
      compute_ce_loss: true,
      compute_l2_norms: true,
      compute_sparsity_metrics: true,
      compute_variance_metrics: true,
      compute_featurewise_density_statistics: true,
      compute_featurewise_weight_based_metrics: true,
      exclude_special_tokens_from_reconstruction: evaluation.skipStart > 0,
      verbose: false,
    },
    eval_id: uuidOf(JSON.stringify([content, sae.hook, settings])),
    datetime_epoch_millis: at,
    eval_result_metrics: {
      model_behavior_preservation: {
        kl_div_score: spliced.recovered.zero.kl,
        kl_div_with_ablation: ablated.zero.kl,
        kl_div_with_sae: spliced.kl,
      },
      model_performance_preservation: {
        ce_loss_score: spliced.recovered.zero.ce,
        ce_loss_with_ablation: ablated.zero.ce,
        ce_loss_with_sae: spliced.ce,
        ce_loss_without_sae: evaluation.clean.ce,
      },
      reconstruction_quality: {
        explained_variance: reconstruction.explainedVariance,
        explained_variance_legacy: reconstruction.explainedVarianceLegacy,
        mse: reconstruction.mseSum,
        cossim: reconstruction.cosine,
      },
      shrinkage: {
        l2_norm_in: reconstruction.l2NormIn,
        l2_norm_out: reconstruction.l2NormOut,
        l2_ratio: reconstruction.l2Ratio,
        relative_reconstruction_bias: reconstruction.relativeReconstructionBias,
      },
      sparsity: { l0: reconstruction.l0, l1: reconstruction.l1 },
      token_stats: {
        total_tokens_eval_reconstruction: evaluation.tokens,
        total_tokens_eval_sparsity_variance: evaluation.tokens,
      },
      misc_metrics: {
        freq_over_1_percent: features.over1Percent,
        freq_over_10_percent: features.over10Percent,
        normalized_freq_over_1_percent: features.weightOver1Percent,
        normalized_freq_over_10_percent: features.weightOver10Percent,
        average_max_encoder_cosine_sim: mean(weights.largestEncoderCosines),
        average_max_decoder_cosine_sim: mean(weights.largestDecoderCosines),
        frac_alive: features.aliveShare,
      },
    },
    eval_result_details: Array.from(features.densities, (density, index) => ({
      index,
      feature_density: density,
      // Of a feature that is never active it has no value, and JSON no NaN.
      consistent_activation_heuristic:
        features.contexts[index] === 0 ? -1 : features.counts[index]! / features.contexts[index]!,
      encoder_bias: description.bEnc?.[index] ?? 0,
      encoder_norm: weights.encoderNorms[index]!,
      encoder_decoder_cosine_sim: weights.encoderDecoderCosines[index]!,
      max_decoder_cosine_sim: weights.largestDecoderCosines[index]!,
      max_encoder_cosine_sim: weights.largestEncoderCosines[index]!,
    })),
    sae_bench_commit_hash: `lambdatap ${packageVersion()}`,
    sae_lens_id: sae.id,
    sae_lens_release_id: null,
    sae_lens_version: null,
    sae_cfg_dict: {
      architecture: description.activation.kind,
      d_in: description.dIn,
      d_sae: description.dSae,
      dtype: "float32",
      normalize_activations: description.normalisation,
      apply_b_dec_to_input: description.subtractsBDec,
      model_name: description.modelName ?? about.model.name,
      hook_name: sae.hook,
      metadata: description.metadata,
    },
    eval_result_unstructured: {
      lambdatap: {
        ...settings,
        ...saeJson(judged),
        all_layers: evaluation.allLayers === null ? null : allLayersJson(evaluation.allLayers),
      },
    },
  };
}

/** The same for the same evaluation (RFC 9562, version 8). */
function uuidOf(text: string): string {
  const bytes = createHash("sha256").update(text).digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
