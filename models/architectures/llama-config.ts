import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, positive, TokenId, TokenIds, whole } from "../config.js";
import type { RopeParameters } from "../rope.js";
import { partialRotaryFactor, readRope } from "../rope-config.js";

// Far above every published model, far below what would hurt before the weights are compared with it.
const MAX_LAYERS = 2_000;
const MAX_HEADS = 4_096;
const MAX_HEAD_DIM = 4_096;
const MAX_WIDTH = 2 ** 20;
const MAX_VOCABULARY = 2 ** 24;
const MAX_POSITIONS = 2 ** 40;

const flag = z.boolean("it must be true or false").nullish();

const LlamaFile = z.object({
  vocab_size: whole(1, MAX_VOCABULARY),
  hidden_size: whole(1, MAX_WIDTH),
  intermediate_size: whole(1, MAX_WIDTH),
  num_hidden_layers: whole(1, MAX_LAYERS),
  num_attention_heads: whole(1, MAX_HEADS),
  num_key_value_heads: whole(1, MAX_HEADS).nullish(),
  head_dim: whole(1, MAX_HEAD_DIM).nullish(),
  rms_norm_eps: positive.default(1e-6),
  hidden_act: z.literal("silu", "the activation known here is silu").default("silu"),
  max_position_embeddings: whole(1, MAX_POSITIONS).default(2048),
  tie_word_embeddings: flag,
  attention_bias: flag,
  mlp_bias: flag,
  bos_token_id: TokenId.nullish(),
  eos_token_id: TokenIds.nullish(),
});

/** Shape and constants of a Llama (Touvron et al. 2023, arXiv 2302.13971). */
export interface LlamaConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Divides `heads`: each key-value head serves heads / kvHeads query heads. */
  readonly kvHeads: number;
  /** Even. heads * headDim may differ from hiddenSize. */
  readonly headDim: number;
  readonly rmsNormEps: number;
  readonly hiddenAct: "silu";
  /** Trained length, tokens. */
  readonly maxPositionEmbeddings: number;
  /** The output head is the embedding matrix. */
  readonly tieWordEmbeddings: boolean;
  /** q, k, v and o have a bias. */
  readonly attentionBias: boolean;
  /** gate, up and down have a bias. */
  readonly mlpBias: boolean;
  readonly rope: RopeParameters;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

/**
 * A config of model_type llama, in the spelling of transformers 4 or 5; sizes and flags that are left out take
 * transformers' defaults, tokens that are left out do not exist.
 * @throws ModelFormatError naming the field, from the config alone: nothing is allocated by its sizes.
 */
export function readLlamaConfig(config: ConfigFields): LlamaConfig {
  const found = parseFields(LlamaFile, config);
  const heads = found.num_attention_heads;
  const kvHeads = found.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0)
    throw fieldError(config, ["num_key_value_heads"], `it must divide num_attention_heads, which is ${heads}`);
  const headDim = found.head_dim ?? found.hidden_size / heads;
  if (!Number.isInteger(headDim))
    throw fieldError(
      config,
      ["hidden_size"],
      `without a head_dim it must be a multiple of num_attention_heads (${heads})`,
    );
  if (headDim % 2 !== 0)
    throw fieldError(config, ["head_dim"], `it must be even, not ${headDim}, because rotary positions turn pairs`);
  if (partialRotaryFactor(config) !== 1)
    throw fieldError(config, ["partial_rotary_factor"], "a Llama rotates every dimension of a head");
  const bosTokenId = found.bos_token_id ?? null;
  if (bosTokenId !== null && bosTokenId >= found.vocab_size)
    throw fieldError(config, ["bos_token_id"], `it must be below vocab_size, which is ${found.vocab_size}`);
  return {
    vocabSize: found.vocab_size,
    hiddenSize: found.hidden_size,
    intermediateSize: found.intermediate_size,
    layers: found.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    rmsNormEps: found.rms_norm_eps,
    hiddenAct: found.hidden_act,
    maxPositionEmbeddings: found.max_position_embeddings,
    tieWordEmbeddings: found.tie_word_embeddings ?? false,
    attentionBias: found.attention_bias ?? false,
    mlpBias: found.mlp_bias ?? false,
    rope: readRope(config, { rotaryDim: headDim, maxPositionEmbeddings: found.max_position_embeddings }),
    bosTokenId,
    eosTokenIds: found.eos_token_id ?? [],
  };
}
