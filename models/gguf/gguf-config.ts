import type { ConfigFields } from "../config.js";
import { ModelFormatError } from "../errors.js";
import type { GgufFiles } from "./gguf-files.js";
import { type GgufSizes, ggufSizes } from "./gguf-sizes.js";
import type { MetadataFields } from "./metadata-fields.js";
import { ropeScaling } from "./rope-scaling.js";
import { specialTokens } from "./special-tokens.js";

// Far above every published model, far below what would hurt.
const HEAD_SIZE = { min: 1, max: 4_096 };
const WIDTH = { min: 1, max: 2 ** 20 };
const VOCABULARY = { min: 1, max: 2 ** 24 };
const POSITIONS = { min: 1, max: 2 ** 40 };

/**
 * The config of a GGUF model in the spelling of transformers. The beginning-of-text token is in it where prompts begin
 * with it.
 * @throws ModelFormatError naming the key, or the tensor that disagrees with it.
 */
export function ggufConfig(model: GgufFiles): ConfigFields {
  const { fields, tensors } = model;
  const sizes = ggufSizes(fields);
  const { architecture, prefix, layers, hiddenSize, heads, kvHeads, headDim } = sizes;
  const vocabSize = vocabularySize(model, sizes);
  checkHeads(model, sizes);
  const tokens = specialTokens(fields, vocabSize);
  const maxPositionEmbeddings = fields.whole(`${prefix}context_length`, POSITIONS);
  refuseOtherComputation(fields, prefix, maxPositionEmbeddings);
  const biases = Object.entries(architecture.biases).map(([field, stems]) => [
    field,
    stems.some((stem) =>
      Array.from({ length: layers }).some((_, i) => tensors.has(`${stem.replace("{}", `${i}`)}.bias`)),
    ),
  ]);
  return {
    file: fields.file,
    values: {
      model_type: architecture.modelType,
      vocab_size: vocabSize,
      hidden_size: hiddenSize,
      intermediate_size: fields.whole(`${prefix}feed_forward_length`, WIDTH),
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: kvHeads,
      head_dim: headDim,
      rms_norm_eps: fields.positive(`${prefix}attention.layer_norm_rms_epsilon`),
      max_position_embeddings: maxPositionEmbeddings,
      rope_theta: fields.positive(`${prefix}rope.freq_base`, 10_000),
      rope_scaling: ropeScaling(fields, prefix, tensors.get("rope_freqs.weight"), { headDim, maxPositionEmbeddings }),
      tie_word_embeddings: !tensors.has("output.weight"),
      ...Object.fromEntries(biases),
      bos_token_id: tokens.bos,
      eos_token_id: tokens.eos,
    },
  };
}

/** Rows of the embedding; the tokens must be as many. */
function vocabularySize({ fields, tensors }: GgufFiles, { prefix, hiddenSize }: GgufSizes): number {
  const embedding = tensors.get("token_embd.weight");
  if (embedding === undefined) throw new ModelFormatError(fields.file, `tensor "token_embd.weight" is missing`);
  const [rows = 0, columns] = embedding.info.shape;
  if (columns !== hiddenSize)
    throw new ModelFormatError(
      embedding.file.path,
      `tensor "token_embd.weight" has shape [${embedding.info.shape.join(", ")}], but ${prefix}embedding_length is ${hiddenSize}`,
    );
  const named = `tensor "token_embd.weight" has ${rows} rows`;
  const tokens = fields.texts("tokenizer.ggml.tokens", null);
  if (tokens !== null && tokens.length !== rows)
    throw new ModelFormatError(fields.file, `tokenizer.ggml.tokens has ${tokens.length} entries, but ${named}`);
  if (fields.whole(`${prefix}vocab_size`, VOCABULARY, rows) !== rows) throw fields.refuse(`${prefix}vocab_size`, named);
  return rows;
}

/** Keys by which llama.cpp computes otherwise, each of which asks for nothing where it is 1. */
const FACTORS = ["attention.scale", "logit_scale", "embedding_scale", "residual_scale"];
const LIMITS = ["attention.clamp_kqv", "attention.max_alibi_bias", "attn_logit_softcapping", "final_logit_softcapping"];

/** @throws ModelFormatError naming a key that asks for what no model of these architectures does here */
function refuseOtherComputation(fields: MetadataFields, prefix: string, trained: number): void {
  const must = "this is not known of such a model";
  for (const name of FACTORS)
    if (fields.positive(prefix + name, 1) !== 1) throw fields.refuse(prefix + name, "only 1 is known here");
  for (const name of LIMITS) if (fields.has(prefix + name)) throw fields.refuse(prefix + name, must);
  if (!fields.flag(`${prefix}attention.causal`, true)) throw fields.refuse(`${prefix}attention.causal`, must);
  const window = `${prefix}attention.sliding_window`;
  const width = fields.whole(window, { min: 0, max: POSITIONS.max }, 0);
  if (width > 0 && width < trained) throw fields.refuse(window, must);
}

/** @throws ModelFormatError where sizes of a head contradict each other; what the tensors say is asked first. */
function checkHeads({ fields, tensors }: GgufFiles, { prefix, heads, headDim }: GgufSizes): void {
  const query = tensors.get("blk.0.attn_q.weight");
  if (query !== undefined && query.info.shape[0] !== heads * headDim)
    throw new ModelFormatError(
      query.file.path,
      `tensor "${query.name}" has shape [${query.info.shape.join(", ")}], but ${heads} heads of ${headDim} make ${heads * headDim} rows`,
    );
  for (const suffix of ["attention.value_length", "rope.dimension_count"])
    if (fields.whole(prefix + suffix, HEAD_SIZE, headDim) !== headDim)
      throw fields.refuse(prefix + suffix, `a head has ${headDim} dimensions, and all of them must be in use`);
}
