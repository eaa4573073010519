import { join } from "node:path";
import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, whole } from "../../config.js";
import { isJsonObject, type JsonObject, readJsonObject } from "../../model-file.js";
import { type InputNormalisation, MAX_WIDTH } from "../sae.js";
import { refuseUnknownFields } from "./config-fields.js";
import { SAELENS_FIELDS } from "./saelens-fields.js";
import { readTrainingModel, type TrainingModel } from "./training-model.js";

const ARCHITECTURES = [
  "standard",
  "gated",
  "jumprelu",
  "topk",
  "batchtopk",
  "matryoshka_batchtopk",
  "topafa",
  "transcoder",
  "skip_transcoder",
  "jumprelu_transcoder",
  "jumprelu_skip_transcoder",
] as const;

const NORMALISATIONS = ["none", "layer_norm", "constant_norm_rescale", "expected_average_only_in"] as const;

const oneOf = <const T extends readonly string[]>(names: T) =>
  z.enum(names, `what is known here is: ${names.join(", ")}`);
const yesOrNo = z.boolean("it must be true or false");
const text = z.string("it must be text");

const File = z.object({
  architecture: oneOf(ARCHITECTURES).default("standard"),
  d_in: whole(1, MAX_WIDTH),
  d_sae: whole(1, MAX_WIDTH),
  d_out: whole(1, MAX_WIDTH).nullish(),
  apply_b_dec_to_input: yesOrNo.nullish(),
  normalize_activations: z
    .union([oneOf(NORMALISATIONS), z.boolean().transform((on) => (on ? "expected_average_only_in" : "none"))], {
      error: `what is known here is: ${NORMALISATIONS.join(", ")}`,
    })
    .nullish(),
  reshape_activations: oneOf(["none", "hook_z"]).nullish(),
  activation_fn: oneOf(["relu", "topk"]).nullish(),
  activation_fn_kwargs: z.record(z.string(), z.unknown(), "it must be an object").nullish(),
  k: z.number().nullish(),
  rescale_acts_by_decoder_norm: yesOrNo.nullish(),
});

const Metadata = z.object({
  hook_name: text.nullish(),
  hook_name_out: text.nullish(),
  hook_head_index: z.int("it must be the number of a head").nullish(),
});

/** cfg.json of an SAE in SAELens' layout, of any version, in the spelling of version 6. */
export interface SaelensConfig {
  readonly fields: ConfigFields;
  readonly architecture: (typeof ARCHITECTURES)[number];
  readonly dIn: number;
  readonly dSae: number;
  readonly dOut: number;
  readonly normalisation: InputNormalisation;
  /** The library scales inputs of such an SAE at training only. */
  readonly scaledInTraining: boolean;
  /** undefined: not said. */
  readonly appliesBDec: boolean | undefined;
  readonly k: number | undefined;
  readonly rescales: boolean;
  readonly hookName: string | null;
  readonly hookNameOut: string | null;
  readonly headIndex: number | null;
  readonly trainedOn: TrainingModel;
  readonly metadata: JsonObject;
}

/**
 * Reads cfg.json. Before version 6 everything stood flat in it, under older names.
 * @throws ModelFormatError naming the field.
 */
export function readSaelensConfig(folder: string): SaelensConfig {
  const file = join(folder, "cfg.json");
  const values = readJsonObject(file);
  const fields: ConfigFields = { file, values: inNewSpelling(values) };
  refuseUnknownFields(fields, SAELENS_FIELDS);
  const cfg = parseFields(File, fields);
  const nested = isJsonObject(values.metadata);
  const metadata = isJsonObject(values.metadata) ? values.metadata : fields.values;
  const described: ConfigFields = { file, values: metadata, ...(nested ? { at: "metadata" } : {}) };
  const about = parseFields(Metadata, described);
  const topk = cfg.activation_fn === "topk";
  if (topk && cfg.architecture !== "standard" && cfg.architecture !== "topk")
    throw fieldError(fields, ["activation_fn"], `the architecture is ${cfg.architecture}`);
  const normalisation = cfg.normalize_activations ?? "none";
  const scaledInTraining = normalisation === "expected_average_only_in";
  if (cfg.reshape_activations === "hook_z" && !about.hook_name?.endsWith("hook_z"))
    throw fieldError(fields, ["reshape_activations"], `the hook is ${about.hook_name ?? "not named"}`);
  return {
    fields,
    architecture: topk ? "topk" : cfg.architecture,
    dIn: cfg.d_in,
    dSae: cfg.d_sae,
    dOut: cfg.d_out ?? cfg.d_in,
    normalisation: normalisation === "expected_average_only_in" ? "none" : normalisation,
    scaledInTraining,
    appliesBDec: cfg.apply_b_dec_to_input ?? undefined,
    k: cfg.k ?? activationK(fields, cfg.activation_fn_kwargs ?? {}),
    rescales: cfg.rescale_acts_by_decoder_norm ?? false,
    hookName: about.hook_name ?? null,
    hookNameOut: about.hook_name_out ?? null,
    headIndex: about.hook_head_index ?? null,
    trainedOn: readTrainingModel(described),
    metadata,
  };
}

/** @throws ModelFormatError naming an option of the activation that is not known here */
function activationK({ file }: ConfigFields, values: JsonObject): number | undefined {
  const options = { file, at: "activation_fn_kwargs", values };
  refuseUnknownFields(options, new Set(["k"]));
  return parseFields(z.object({ k: z.int("it must be a whole number").nullish() }), options).k ?? undefined;
}

function inNewSpelling(values: JsonObject): JsonObject {
  const renamed: JsonObject = {
    hook_name: values.hook_point,
    hook_head_index: values.hook_point_head_index,
    activation_fn: values.activation_fn_str,
  };
  return { ...renamed, ...values };
}
