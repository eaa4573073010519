import { z } from "zod";
import { type Activation, ActivationName } from "../activation.js";
import { alibiSlopes } from "../alibi.js";
import { type ConfigFields, fieldError, parseFields, positive } from "../config.js";
import type { Positions } from "../model-shape.js";
import { partialRotaryFactor, readRope } from "../rope-config.js";
import {
  flag,
  headCount,
  layerCount,
  type ModelSizes,
  positionCount,
  sharedHeadDim,
  textTokenFields,
  textTokens,
  underEitherName,
  vocabularySize,
  width,
} from "./model-sizes.js";

const FalconFile = z.object({
  vocab_size: vocabularySize,
  hidden_size: width.nullish(),
  n_embed: width.nullish(),
  ffn_hidden_size: width.nullish(),
  num_hidden_layers: layerCount.nullish(),
  n_layer: layerCount.nullish(),
  num_attention_heads: headCount.nullish(),
  n_head: headCount.nullish(),
  num_kv_heads: headCount.nullish(),
  n_head_kv: headCount.nullish(),
  max_position_embeddings: positionCount.default(2048),
  layer_norm_epsilon: positive.default(1e-5),
  activation: ActivationName.default("gelu"),
  new_decoder_architecture: flag(false),
  multi_query: flag(true),
  parallel_attn: flag(true),
  num_ln_in_parallel_attn: z.literal([1, 2], "it must be 1 or 2").nullish(),
  alibi: flag(false),
  bias: flag(false),
  apply_residual_connection_post_layernorm: z
    .literal(false, "only residuals from before the norm are known here")
    .nullish(),
  tie_word_embeddings: flag(true),
  ...textTokenFields,
});

export interface FalconConfig extends ModelSizes {
  readonly intermediateSize: number;
  readonly epsilon: number;
  readonly activation: Activation;
  readonly positions: Positions;
  /**
   * sequential: attention, then the MLP, a norm each (RW). shared: side by side, on one norm (7B, 11B). apart: side by
   * side, a norm each (40B, 180B).
   */
  readonly block: "sequential" | "shared" | "apart";
  readonly bias: boolean;
  readonly tieWordEmbeddings: boolean;
}

/** @throws ModelFormatError naming the field */
export function readFalconConfig(config: ConfigFields): FalconConfig {
  const found = parseFields(FalconFile, config);
  const hiddenSize = underEitherName(config, found, ["hidden_size", "n_embed"]);
  const heads = underEitherName(config, found, ["num_attention_heads", "n_head"]);
  const headDim = sharedHeadDim(config, ["hidden_size", "n_embed"], hiddenSize, heads);
  return {
    vocabSize: found.vocab_size,
    hiddenSize,
    intermediateSize: found.ffn_hidden_size ?? 4 * hiddenSize,
    layers: underEitherName(config, found, ["num_hidden_layers", "n_layer"]),
    heads,
    kvHeads: keyValueHeads(config, found, heads),
    headDim,
    trainedLength: found.max_position_embeddings,
    epsilon: found.layer_norm_epsilon,
    activation: found.activation,
    positions: found.alibi ? alibi(heads, headDim) : rotary(config, headDim, found.max_position_embeddings),
    block: blockKind(config, found),
    bias: found.bias,
    tieWordEmbeddings: found.tie_word_embeddings,
    ...textTokens(config, found),
  };
}

type Found = z.output<typeof FalconFile>;

/** Only the new decoder has its own number of key-value heads: else there is one, or as many as query heads. */
function keyValueHeads(config: ConfigFields, found: Found, heads: number): number {
  if (!found.new_decoder_architecture) return found.multi_query ? 1 : heads;
  const kvHeads = found.num_kv_heads ?? found.n_head_kv ?? heads;
  if (heads % kvHeads !== 0)
    throw fieldError(config, ["num_kv_heads"], `it must divide the number of attention heads, which is ${heads}`);
  return kvHeads;
}

function blockKind(config: ConfigFields, found: Found): FalconConfig["block"] {
  const { new_decoder_architecture: newDecoder, num_ln_in_parallel_attn: norms } = found;
  if (newDecoder && !found.parallel_attn)
    throw fieldError(config, ["parallel_attn"], "the new decoder runs attention and MLP side by side");
  if (!newDecoder && norms === 2)
    throw fieldError(config, ["num_ln_in_parallel_attn"], "only the new decoder has a norm each side by side");
  if (!found.parallel_attn) return "sequential";
  return newDecoder && norms !== 1 ? "apart" : "shared";
}

/** Falcon adds ALiBi before the scores are scaled. */
const alibi = (heads: number, headDim: number): Positions => ({
  kind: "alibi",
  slopes: alibiSlopes(heads).map((slope) => slope / Math.sqrt(headDim)),
});

function rotary(config: ConfigFields, headDim: number, maxPositionEmbeddings: number): Positions {
  if (headDim % 2 !== 0)
    throw fieldError(
      config,
      ["hidden_size"],
      `it makes heads of ${headDim} dimensions, but rotary positions turn pairs`,
    );
  if (partialRotaryFactor(config) !== 1)
    throw fieldError(config, ["partial_rotary_factor"], "a Falcon rotates every dimension of a head");
  return { kind: "rotary", rope: readRope(config, { rotaryDim: headDim, maxPositionEmbeddings }), rotaryDim: headDim };
}
