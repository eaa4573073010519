import { z } from "zod";
import { type Activation, ActivationName } from "../activation.js";
import type { Rotary } from "../attention/attention.js";
import { type ConfigFields, fieldError, parseFields, positive, TokenId, TokenIds, whole } from "../config.js";
import type { Geometry, ModelShape } from "../model-shape.js";
import { partialRotaryFactor, type RopeSource, readRope } from "../rope-config.js";
import { sharedGeometries } from "./layer-geometry.js";

// Far above every published model, far below what would hurt before the weights are compared with it.
const MAX_LAYERS = 2_000;
const MAX_HEADS = 4_096;
const MAX_HEAD_DIM = 4_096;
const MAX_WIDTH = 2 ** 20;
const MAX_VOCABULARY = 2 ** 24;
const MAX_POSITIONS = 2 ** 40;

export const flag = z.boolean("it must be true or false").nullish();

/** A field that must not ask for anything. */
const unused = (must: string) => z.literal([false, 0, null], must).optional();
const noExperts = unused("a mixture of experts is not known here");

const DecoderFile = z.object({
  vocab_size: whole(1, MAX_VOCABULARY),
  hidden_size: whole(1, MAX_WIDTH),
  intermediate_size: whole(1, MAX_WIDTH),
  num_hidden_layers: whole(1, MAX_LAYERS),
  num_attention_heads: whole(1, MAX_HEADS),
  num_key_value_heads: whole(1, MAX_HEADS).nullish(),
  head_dim: whole(1, MAX_HEAD_DIM).nullish(),
  rms_norm_eps: positive,
  max_position_embeddings: whole(1, MAX_POSITIONS),
  tie_word_embeddings: flag,
  attention_bias: flag,
  mlp_bias: flag,
  bos_token_id: TokenId.nullish(),
  eos_token_id: TokenIds.nullish(),
  num_experts: noExperts,
  num_local_experts: noExperts,
  n_routed_experts: noExperts,
  use_bidirectional_attention: unused("attention here only looks back"),
});

/** Shape and constants of Llama and its relatives, without what positions do in its layers. */
export interface DecoderSizes {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Divides `heads`: each key-value head serves heads / kvHeads query heads. */
  readonly kvHeads: number;
  /** heads * headDim may differ from hiddenSize. */
  readonly headDim: number;
  readonly rmsNormEps: number;
  readonly activation: Activation;
  /** Trained length, tokens. */
  readonly maxPositionEmbeddings: number;
  /** The output head is the embedding matrix. */
  readonly tieWordEmbeddings: boolean;
  /** Which linear maps have one. */
  readonly biases: { readonly queryKeyValue: boolean; readonly attentionOutput: boolean; readonly mlp: boolean };
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

export interface DecoderConfig extends DecoderSizes {
  /** Of every layer. */
  readonly layerGeometry: readonly Geometry[];
}

/** Fields, with those that a family gives where the config leaves them out; in the file's spelling. */
export const withDefaults = (config: ConfigFields, defaults: ConfigFields["values"]): ConfigFields => ({
  ...config,
  values: { ...defaults, ...config.values },
});

/**
 * Sizes and flags in the spelling of transformers 4 or 5; tokens that are left out do not exist.
 * @param activation the field that names the activation
 * @throws ModelFormatError naming the field, from the config alone: nothing is allocated by its sizes.
 */
export function readDecoder(
  config: ConfigFields,
  activation: "hidden_act" | "hidden_activation" = "hidden_act",
): DecoderSizes {
  const found = parseFields(DecoderFile, config);
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
  const bosTokenId = found.bos_token_id ?? null;
  if (bosTokenId !== null && bosTokenId >= found.vocab_size)
    throw fieldError(config, ["bos_token_id"], `it must be below vocab_size, which is ${found.vocab_size}`);
  const attentionBias = found.attention_bias ?? false;
  return {
    vocabSize: found.vocab_size,
    hiddenSize: found.hidden_size,
    intermediateSize: found.intermediate_size,
    layers: found.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    rmsNormEps: found.rms_norm_eps,
    activation: parseFields(z.object({ [activation]: ActivationName.default("silu") }), config)[activation] ?? "silu",
    maxPositionEmbeddings: found.max_position_embeddings,
    tieWordEmbeddings: found.tie_word_embeddings ?? false,
    biases: { queryKeyValue: attentionBias, attentionOutput: attentionBias, mlp: found.mlp_bias ?? false },
    bosTokenId,
    eosTokenIds: found.eos_token_id ?? [],
  };
}

/** How rotary positions of a family may differ from those of the whole head, in all layers. */
interface RotaryOptions extends RopeSource {
  /** Rotates the first dimensions of a head only, by partial_rotary_factor. */
  readonly partial?: boolean;
}

/** @throws ModelFormatError naming the field. */
export function rotary(
  config: ConfigFields,
  { headDim, maxPositionEmbeddings }: DecoderSizes,
  { partial = false, ...source }: RotaryOptions = {},
): Rotary {
  const factor = partialRotaryFactor(config, source);
  if (factor !== 1 && !partial)
    throw fieldError(config, ["partial_rotary_factor"], "models of this type rotate every dimension of a head");
  const rotaryDim = Math.trunc(headDim * factor);
  if (rotaryDim === 0 || rotaryDim % 2 !== 0) {
    const field = factor === 1 ? "head_dim" : "partial_rotary_factor";
    const must =
      factor === 1
        ? `it must be even, not ${headDim},`
        : `it leaves ${rotaryDim} of ${headDim} dimensions, not an even number above 0,`;
    throw fieldError(config, [field], `${must} because rotary positions turn pairs`);
  }
  return { kind: "rotary", rope: readRope(config, { rotaryDim, maxPositionEmbeddings, ...source }), rotaryDim };
}

/** @param postNorm as in ModelShape */
export const decoderShape = (c: DecoderConfig, postNorm = false): ModelShape => ({
  vocabSize: c.vocabSize,
  hiddenSize: c.hiddenSize,
  layers: c.layers,
  heads: c.heads,
  kvHeads: c.kvHeads,
  headDim: c.headDim,
  trainedLength: c.maxPositionEmbeddings,
  bosTokenId: c.bosTokenId,
  eosTokenIds: c.eosTokenIds,
  ...sharedGeometries(c.layerGeometry),
  learnedPositions: null,
  postNorm,
  ignoresMean: "never",
});
