import { z } from "zod";
import { type ConfigFields, fieldError, parseFields } from "../../config.js";
import type { JsonObject } from "../../model-file.js";

/** The model that an SAE was trained on, as far as its config says how that was loaded. */
export interface TrainingModel {
  /** In the publisher's spelling, with the revision if it was not the last one; null where the config does not say. */
  readonly name: string | null;
  /** Hooks are modules of Hugging Face's class, not TransformerLens' names. */
  readonly isHuggingFace: boolean;
  /** Its weights that write to the residual stream had no mean (TransformerLens' center_writing_weights). */
  readonly centredWeights: boolean;
}

const HUGGING_FACE = "AutoModelForCausalLM";
const CLASSES = [
  "HookedTransformer",
  "HookedSAETransformer",
  "TransformerBridge",
  "SAETransformerBridge",
  HUGGING_FACE,
] as const;

const Training = z.object({
  model_name: z.string("it must be text").nullish(),
  model_class_name: z.enum(CLASSES, `what is known here is: ${CLASSES.join(", ")}`).nullish(),
  model_from_pretrained_kwargs: z.record(z.string(), z.unknown(), "it must be an object").nullish(),
});
const Processing = z.object({ center_writing_weights: z.boolean("it must be true or false").nullish() });

/**
 * Options that leave the residual stream, and what attention and MLP add to it, what they are: TransformerLens folds gains
 * and biases into other weights (fold_ln, fold_value_biases), factors W_V W_O and W_Q W_K otherwise, or takes a constant
 * off all logits (center_unembed). The rest says where and from what the weights are loaded.
 */
const HARMLESS: ReadonlySet<string> = new Set([
  ...["fold_ln", "fold_value_biases", "refactor_factored_attn_matrices", "center_unembed"],
  ...["device", "n_devices", "device_map", "max_memory", "move_to_device", "low_cpu_mem_usage", "offload_folder"],
  ...["dtype", "torch_dtype", "attn_implementation", "use_cache", "trust_remote_code", "token", "use_auth_token"],
  ...["cache_dir", "local_files_only", "force_download", "use_safetensors", "first_n_layers"],
  ...["default_prepend_bos", "default_padding_side"],
]);

/** Options that name other weights than a model's last ones. */
const REVISIONS = ["revision", "checkpoint_index", "checkpoint_value", "checkpoint_label"] as const;

/**
 * `model_name`, `model_class_name` and `model_from_pretrained_kwargs` of a SAELens config.
 * @throws ModelFormatError naming an option that may have changed what the SAE has read
 */
export function readTrainingModel(metadata: ConfigFields): TrainingModel {
  const found = parseFields(Training, metadata);
  const values = found.model_from_pretrained_kwargs ?? {};
  const at = [...(metadata.at ? [metadata.at] : []), "model_from_pretrained_kwargs"].join(".");
  const options: ConfigFields = { file: metadata.file, at, values };
  const isHuggingFace = found.model_class_name === HUGGING_FACE;
  const { center_writing_weights: centred } = parseFields(Processing, options);
  if (centred && isHuggingFace)
    throw fieldError(options, ["center_writing_weights"], `an ${HUGGING_FACE} has no such option`);
  for (const [name, value] of Object.entries(values))
    if (value && !HARMLESS.has(name) && name !== "center_writing_weights" && !isRevision(name))
      throw fieldError(options, [name], "it is not known here whether this option changes the residual stream");
  return { name: nameOf(found.model_name ?? null, values), isHuggingFace, centredWeights: centred ?? false };
}

const isRevision = (name: string): boolean => REVISIONS.some((each) => each === name);

function nameOf(name: string | null, options: JsonObject): string | null {
  const revisions = REVISIONS.flatMap((option) => {
    const value = options[option] ?? "main";
    return value === "main" ? [] : [`${option} ${value}`];
  });
  return revisions.length === 0 ? name : `${name ?? "a model"} at ${revisions.join(", ")}`;
}
