import type { ConfigFields } from "../config.js";
import { ModelFormatError } from "../errors.js";
import { GGUF_ARCHITECTURES, type GgufArchitecture } from "./architectures.js";
import type { GgufFiles } from "./gguf-files.js";
import type { MetadataFields } from "./metadata-fields.js";
import { ropeScaling } from "./rope-scaling.js";
import { specialTokens } from "./special-tokens.js";
import { addsBos } from "./tokenizer-json.js";

// Far above every published model, far below what would hurt.
const LAYERS = { min: 1, max: 2_000 };
const HEADS = { min: 1, max: 4_096 };
const HEAD_SIZE = { min: 1, max: 4_096 };
const WIDTH = { min: 1, max: 2 ** 20 };
const VOCABULARY = { min: 1, max: 2 ** 24 };
const POSITIONS = { min: 1, max: 2 ** 40 };

/** The sizes that tensors are laid out by. */
export interface GgufSizes {
  readonly architecture: GgufArchitecture;
  /** Before the architecture's own keys: "llama." */
  readonly prefix: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** @throws ModelFormatError naming the key. */
export function ggufSizes(fields: MetadataFields): GgufSizes {
  const name = fields.text("general.architecture");
  const architecture = GGUF_ARCHITECTURES.get(name);
  if (architecture === undefined)
    throw fields.refuse("general.architecture", `those known here are ${[...GGUF_ARCHITECTURES.keys()].join(", ")}`);
  if (fields.has("general.type") && fields.text("general.type") !== "model")
    throw fields.refuse("general.type", "only files of type model hold a whole model");
  const key = (suffix: string) => `${name}.${suffix}`;
  if (fields.whole(key("expert_count"), { min: 0, max: 2 ** 32 }, 0) > 0)
    throw fields.refuse(key("expert_count"), "mixtures of experts are not known here");
  const hiddenSize = fields.whole(key("embedding_length"), WIDTH);
  const heads = fields.whole(key("attention.head_count"), HEADS);
  const kvHeads = fields.whole(key("attention.head_count_kv"), HEADS, heads);
  if (heads % kvHeads !== 0)
    throw fields.refuse(key("attention.head_count_kv"), `it must divide attention.head_count, which is ${heads}`);
  if (!fields.has(key("attention.key_length")) && hiddenSize % heads !== 0)
    throw fields.refuse(key("attention.head_count"), `it must divide embedding_length, which is ${hiddenSize}`);
  const headDim = fields.whole(key("attention.key_length"), HEAD_SIZE, hiddenSize / heads);
  if (headDim % 2 !== 0)
    throw fields.refuse(
      key("attention.key_length"),
      `a head has ${headDim} dimensions, but must have an even number, because rotary positions turn pairs`,
    );
  const layers = fields.whole(key("block_count"), LAYERS);
  return { architecture, prefix: `${name}.`, layers, hiddenSize, heads, kvHeads, headDim };
}

/**
 * The config of a GGUF model in the spelling of transformers. The beginning-of-text token is in it where prompts begin
 * with it.
 * @throws ModelFormatError naming the key, or the tensor that disagrees with it.
 */
export function ggufConfig({ files, fields, tensors }: GgufFiles): ConfigFields {
  const sizes = ggufSizes(fields);
  const { architecture, prefix, layers, hiddenSize, heads, kvHeads, headDim } = sizes;
  const vocabSize = vocabularySize({ files, fields, tensors }, prefix, hiddenSize);
  checkHeads({ files, fields, tensors }, sizes);
  const tokens = specialTokens(fields, vocabSize);
  const maxPositionEmbeddings = fields.whole(`${prefix}context_length`, POSITIONS);
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
      bos_token_id: addsBos(fields) ? tokens.bos : null,
      eos_token_id: tokens.eos,
    },
  };
}

/** Rows of the embedding; the tokens must be as many. */
function vocabularySize({ fields, tensors }: GgufFiles, prefix: string, hiddenSize: number): number {
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

/** @throws ModelFormatError where sizes of a head contradict each other; a tensor that has none of them is named first. */
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
