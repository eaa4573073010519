import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { fieldError, parseFields, positive } from "../../config.js";
import { ModelFormatError } from "../../errors.js";
import { readJsonObject } from "../../model-file.js";
import { foldDecoderNorms, foldInputScale } from "../folding.js";
import type { SaeActivation, SaeDescription } from "../sae.js";
import { moduleOutput, type SaeHook, transcoderHook, transformerLensHook, untappable } from "../sae-hook.js";
import { claim, readSafetensors, type TensorClaims } from "./sae-tensors.js";
import { readSaelensConfig, type SaelensConfig } from "./saelens-config.js";

export const SAELENS_WEIGHTS = "sae_weights.safetensors";
const ACTIVATION_SCALER = "activation_scaler.json";

/**
 * An SAE as SAELens publishes it: cfg.json of version 6 or earlier and sae_weights.safetensors (and the embedded model's
 * own, of the architecture "topafa"). Decoder norms are left as they are, but where the config says that activations are
 * rescaled by them they are folded into the weights, which computes the same. Source: decoderesearch/SAELens, sae_lens/saes.
 * @throws ModelFormatError naming field or tensor.
 */
export function readSaelens(folder: string): SaeDescription {
  const cfg = readSaelensConfig(folder);
  const file = join(folder, SAELENS_WEIGHTS);
  const tensors = claim(file, readSafetensors(file));
  const { dIn, dOut, dSae, normalisation, trainedOn, metadata } = cfg;
  const transcoder = cfg.architecture.endsWith("transcoder");
  if (!transcoder && dOut !== dIn) throw fieldError(cfg.fields, ["d_out"], `d_in is ${dIn}`);
  refuseScalingFactor(tensors, file, dSae);
  const wEnc = tensors.take("W_enc", dIn, dSae);
  const wDec = tensors.take("W_dec", dSae, dOut);
  const matrices = { dSae, dOut, wEnc, wDec, bEnc: readBEnc(cfg, tensors) };
  const sae: SaeDescription = {
    file,
    format: "saelens",
    kind: transcoder ? "transcoder" : "autoencoder",
    dIn,
    ...matrices,
    ...(rescales(cfg) ? foldDecoderNorms(matrices) : {}),
    bDec: tensors.take("b_dec", dOut),
    wSkip: cfg.architecture.includes("skip") ? tensors.take("W_skip", dOut, dIn) : null,
    subtractsBDec: subtractsBDec(cfg, transcoder),
    normalisation,
    activation: readActivation(cfg, tensors),
    hook: readHook(cfg, transcoder),
    modelName: trainedOn.name,
    centredWeights: trainedOn.centredWeights,
    metadata,
  };
  tensors.nothingLeft();
  return cfg.scaledInTraining ? foldInputScale(sae, trainingScale(folder)) : sae;
}

/** Top-AFA SAEs store a b_enc that they never use; gated ones have none. */
function readBEnc(cfg: SaelensConfig, tensors: TensorClaims): Float32Array | null {
  if (cfg.architecture === "gated") return null;
  if (cfg.architecture !== "topafa") return tensors.take("b_enc", cfg.dSae);
  tensors.drop("b_enc");
  return null;
}

const rescales = ({ architecture, rescales }: SaelensConfig): boolean =>
  rescales && (architecture === "topk" || isBatchTopK(architecture));

/** As saved in training; published ones say "jumprelu". */
const isBatchTopK = (architecture: string): boolean => architecture.endsWith("batchtopk");

function readActivation(cfg: SaelensConfig, tensors: TensorClaims): SaeActivation {
  const { architecture, dSae, k } = cfg;
  if (architecture === "topafa") return { kind: "top-afa" };
  if (architecture.startsWith("jumprelu")) return { kind: "jumprelu", threshold: tensors.take("threshold", dSae) };
  if (isBatchTopK(architecture))
    return { kind: "jumprelu", threshold: new Float32Array(dSae).fill(tensors.number("topk_threshold")) };
  if (architecture === "gated") {
    const [bGate, bMag, rMag] = ["b_gate", "b_mag", "r_mag"].map((name) => tensors.take(name, dSae));
    if (bGate && bMag && rMag) return { kind: "gated", bGate, bMag, rMag };
  }
  if (architecture !== "topk") return { kind: "relu" };
  if (k !== undefined && Number.isInteger(k) && k >= 1 && k <= dSae) return { kind: "top-k", k };
  throw fieldError(cfg.fields, ["k"], `top-k keeps a whole number from 1 to ${dSae} of features`);
}

function subtractsBDec({ appliesBDec, architecture, fields }: SaelensConfig, transcoder: boolean): boolean {
  if (transcoder && appliesBDec === true)
    throw fieldError(fields, ["apply_b_dec_to_input"], "a transcoder's b_dec belongs to its output");
  if (architecture === "topafa" && appliesBDec === false)
    throw fieldError(fields, ["apply_b_dec_to_input"], "top-AFA is defined with b_dec subtracted");
  return appliesBDec ?? !transcoder;
}

function readHook({ hookName, hookNameOut, headIndex, trainedOn }: SaelensConfig, transcoder: boolean): SaeHook {
  if (transcoder) return transcoderHook(hookName, hookNameOut);
  if (hookName === null) return untappable(null, "Its cfg.json does not say which hook it was trained on.");
  if (headIndex !== null) return untappable(hookName, `It reads head ${headIndex} of ${hookName} alone.`);
  return trainedOn.isHuggingFace ? moduleOutput(hookName) : transformerLensHook(hookName);
}

function refuseScalingFactor(tensors: TensorClaims, file: string, dSae: number): void {
  const factors = tensors.takeIfThere("scaling_factor", dSae);
  if (factors?.some((factor) => factor !== 1))
    throw new ModelFormatError(
      file,
      'tensor "scaling_factor" is not all ones: it was fine-tuned in a way SAELens dropped',
    );
}

/** A checkpoint of a run that was not finished has its scale in a file of its own; without one the scale is folded in. */
function trainingScale(folder: string): number {
  const file = join(folder, ACTIVATION_SCALER);
  if (!existsSync(file)) return 1;
  return (
    parseFields(z.object({ scaling_factor: positive.nullable() }), { file, values: readJsonObject(file) })
      .scaling_factor ?? 1
  );
}
