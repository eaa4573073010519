import { join } from "node:path";
import { packageVersion } from "../../models/package-root.js";
import { narrowF16 } from "../../models/weights/half-precision.js";
import type { TrainingState } from "../step/sae-state.js";
import type { StepConfig } from "../step/step-config.js";
import { float32Bytes, safetensorsFile } from "./safetensors-file.js";
import type { TrainingConfig } from "./training-config.js";
import { writeFile } from "./write-file.js";

export type StoredType = "f32" | "f16";

/** What was trained, and how it is stored. */
export interface Trained {
  readonly config: TrainingConfig;
  readonly state: Pick<TrainingState, "tensors">;
  /** Of batch top-k: what an activation must be above to be kept. */
  readonly threshold: number | null;
  /** Rows that were seen. */
  readonly tokens: number;
  readonly storedAs: StoredType;
}

const ARCHITECTURES = { "top-afa": "topafa", topk: "topk", "batch-topk": "jumprelu", jumprelu: "jumprelu" } as const;

/** The first version of SAELens whose cfg.json looks like this. */
const SAELENS_LAYOUT = "6.0.0";

/**
 * Writes an SAE as SAELens 6 does: cfg.json and sae_weights.safetensors. Batch top-k becomes a jumprelu with one threshold for
 * all features, as there; "topafa" is an architecture that SAELens does not have.
 * @throws SetupError where a file cannot be written
 */
export function writeSaelensFolder(folder: string, trained: Trained): void {
  const { config, state, storedAs } = trained;
  const { dIn, dSae, activation } = config.step;
  const vector = (name: string): Float32Array => state.tensors.get(name) ?? new Float32Array(dSae);
  const thresholds = thresholdsOf(trained);
  const tensors = new Map<string, { readonly shape: readonly number[]; readonly values: Float32Array }>([
    ["W_enc", { shape: [dIn, dSae], values: vector("W_enc") }],
    ["W_dec", { shape: [dSae, dIn], values: vector("W_dec") }],
    ["b_enc", { shape: [dSae], values: vector("b_enc") }],
    ["b_dec", { shape: [dIn], values: vector("b_dec") }],
    ...(thresholds === null ? [] : ([["threshold", { shape: [dSae], values: thresholds }]] as const)),
  ]);
  const bytes = (values: Float32Array): Uint8Array => {
    if (storedAs === "f32") return float32Bytes(values);
    const halves = new Uint16Array(values.length);
    narrowF16(values, halves);
    return new Uint8Array(halves.buffer);
  };
  const stored = new Map([...tensors].map(([name, { shape, values }]) => [name, { shape, bytes: bytes(values) }]));
  writeFile(join(folder, "sae_weights.safetensors"), safetensorsFile(stored, storedAs === "f32" ? "F32" : "F16"));
  const cfg = {
    architecture: ARCHITECTURES[activation.kind],
    ...{ d_in: dIn, d_sae: dSae, dtype: storedAs === "f32" ? "float32" : "float16", device: "cpu" },
    apply_b_dec_to_input: true,
    normalize_activations: config.step.normalisation,
    reshape_activations: config.hook.endsWith("hook_z") && config.head === null ? "hook_z" : "none",
    ...(activation.kind === "topk" ? { k: activation.k, rescale_acts_by_decoder_norm: false } : {}),
    metadata: metadataOf(trained),
  };
  // The folder is an SAE once this file is there.
  writeFile(join(folder, "cfg.json"), `${JSON.stringify(cfg, null, 1)}\n`);
}

function thresholdsOf({ config, state, threshold }: Trained): Float32Array | null {
  const { dSae, activation } = config.step;
  if (activation.kind === "batch-topk") return new Float32Array(dSae).fill(threshold ?? 0);
  if (activation.kind !== "jumprelu") return null;
  // What a step takes for a threshold is never below 0.
  return (state.tensors.get("threshold") ?? new Float32Array(dSae)).map((value) => Math.max(0, value));
}

function metadataOf({ config, tokens }: Trained): Record<string, unknown> {
  const { model, hook, head, text, context, seed } = config;
  const { activation } = config.step;
  return {
    ...{ model_name: model.name, hook_name: hook, hook_head_index: head, prepend_bos: config.startsTexts },
    ...{ context_size: context, dataset_path: text.join(", "), training_tokens: tokens, seed },
    // Without it SAELens takes the file for one from before version 6, and leaves the names of model and hook out.
    sae_lens_version: SAELENS_LAYOUT,
    lambdatap: { version: packageVersion(), trained_as: activation, data: config.data, model: model.content },
  };
}

/** The same in the words of the step: what an SAE of this configuration is called in tables. */
export function activationName({ activation }: StepConfig): string {
  switch (activation.kind) {
    case "top-afa":
      return `top-afa, lambda ${activation.lambda}`;
    case "jumprelu":
      return `jumprelu, l0 coefficient ${activation.l0Coefficient}`;
    default:
      return `${activation.kind}, k ${activation.k}`;
  }
}
