import { type ConfigFields, fieldError } from "../config.js";
import { isJsonObject } from "../model-file.js";

/** A field by which some family computes otherwise. */
interface ForeignField {
  /** Whether its value changes nothing; null and absence never do. */
  readonly isNeutral: (value: unknown, config: ConfigFields) => boolean;
  /** Model types that read it; "*" at the end stands for anything. */
  readonly readBy?: readonly string[];
}

const never = () => false;
const is =
  (...neutral: readonly unknown[]) =>
  (value: unknown) =>
    neutral.includes(value);
const isEmpty = (value: unknown) => isJsonObject(value) && Object.keys(value).length === 0;
const each = (neutral: unknown) => (value: unknown) =>
  Array.isArray(value) && value.every((entry) => entry === neutral);

const GEMMAS = ["gemma*"];
const WINDOWED = ["mistral", "phi3", "qwen*", "smollm3", ...GEMMAS];
const ROTARY = ["llama", "olmo2", "gpt_neox", "falcon", ...WINDOWED];

/** A window that no text of the trained length fills hides nothing. */
function hidesNothing(window: unknown, { values }: ConfigFields): boolean {
  const { use_sliding_window: used, max_position_embeddings: trained } = values;
  return used === false || (typeof window === "number" && typeof trained === "number" && window >= trained);
}

/**
 * Fields of other families, which fine-tuned and converted models take along. Transformers ignores them where a family does
 * not read them, and would compute another model than the one that the config tells of.
 */
const FIELDS: Readonly<Record<string, ForeignField>> = {
  // Granite, Falcon-H1, MiniCPM, Cohere
  attention_multiplier: { isNeutral: never },
  embedding_multiplier: { isNeutral: is(1) },
  residual_multiplier: { isNeutral: is(1) },
  lm_head_multiplier: { isNeutral: is(1) },
  key_multiplier: { isNeutral: is(1) },
  attention_in_multiplier: { isNeutral: is(1) },
  attention_out_multiplier: { isNeutral: is(1) },
  logits_scaling: { isNeutral: is(1) },
  logit_scale: { isNeutral: is(1), readBy: ["mpt"] },
  scale_emb: { isNeutral: is(1) },
  scale_depth: { isNeutral: never },
  dim_model_base: { isNeutral: never },
  // Gemma
  query_pre_attn_scalar: { isNeutral: never, readBy: GEMMAS },
  attn_logit_softcapping: { isNeutral: never, readBy: GEMMAS },
  final_logit_softcapping: { isNeutral: never, readBy: GEMMAS },
  // OLMo, StableLM, Cohere, Phi
  clip_qkv: { isNeutral: never },
  qk_norm: { isNeutral: is(false) },
  use_qk_norm: { isNeutral: is(false) },
  qk_layernorm: { isNeutral: is(false) },
  lm_head_bias: { isNeutral: is(false) },
  // Falcon, GPT-NeoX
  alibi: { isNeutral: is(false), readBy: ["falcon"] },
  parallel_attn: { isNeutral: is(false), readBy: ["falcon"] },
  use_parallel_residual: { isNeutral: is(false), readBy: ["gpt_neox"] },
  // Llama 4, SmolLM3, DeepSeek, Gemma 3n
  no_rope_layers: { isNeutral: each(1), readBy: ["smollm3"] },
  attention_chunk_size: { isNeutral: never },
  attn_temperature_tuning: { isNeutral: is(false, 0) },
  rope_interleave: { isNeutral: is(false) },
  rope_interleaved: { isNeutral: is(false) },
  kv_lora_rank: { isNeutral: never },
  num_kv_shared_layers: { isNeutral: is(0) },
  // Windows
  layer_types: { isNeutral: each("full_attention"), readBy: WINDOWED },
  sliding_window: { isNeutral: hidesNothing, readBy: WINDOWED },
  // Positions
  rope_theta: { isNeutral: is(10_000), readBy: ROTARY },
  rope_scaling: { isNeutral: isEmpty, readBy: ROTARY },
  rope_parameters: { isNeutral: isEmpty, readBy: ROTARY },
  position_embedding_type: { isNeutral: is("absolute", "rope", "rotary"), readBy: ["bloom", "mpt", "falcon"] },
  // Encoders
  is_causal: { isNeutral: is(true) },
  is_encoder_decoder: { isNeutral: is(false) },
  add_cross_attention: { isNeutral: is(false), readBy: ["gpt2"] },
};

/** Names of the smallest number in a norm. */
const EPSILONS = ["rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "layernorm_epsilon"];
const EPSILON_OF: ReadonlyMap<string, string> = new Map([
  ...["gpt2", "gptj", "bloom", "falcon", "mpt"].map((type) => [type, "layer_norm_epsilon"] as const),
  ["gpt_neox", "layer_norm_eps"],
]);

/**
 * Refuses what a config says in words of other families, and this one would not do.
 * @throws ModelFormatError naming the field
 */
export function refuseForeignFields(config: ConfigFields, modelType: string): void {
  for (const [name, { isNeutral, readBy = [] }] of Object.entries(FIELDS)) {
    const value = config.values[name] ?? null;
    if (value === null || readBy.some((type) => fits(modelType, type)) || isNeutral(value, config)) continue;
    throw fieldError(config, [name], `this is not known of a ${modelType}`);
  }
  const own = EPSILON_OF.get(modelType) ?? "rms_norm_eps";
  const other = EPSILONS.find((name) => ![undefined, null, config.values[own]].includes(config.values[name]));
  if (other !== undefined && other !== own) throw fieldError(config, [other], `a ${modelType} has ${own}`);
}

const fits = (modelType: string, type: string): boolean =>
  type.endsWith("*") ? modelType.startsWith(type.slice(0, -1)) : modelType === type;
