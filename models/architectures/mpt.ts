import { z } from "zod";
import { alibiSlopes } from "../alibi.js";
import { type ConfigFields, fieldError, parseFields, positive } from "../config.js";
import { hook } from "../hooks.js";
import { isJsonObject } from "../model-file.js";
import type { Architecture } from "./architecture.js";
import { matrix } from "./matrix.js";
import {
  alikeLayers,
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
import { selfAttention } from "./self-attention.js";

const MptFile = z.object({
  vocab_size: vocabularySize,
  d_model: width.nullish(),
  hidden_size: width.nullish(),
  n_heads: headCount.nullish(),
  num_attention_heads: headCount.nullish(),
  n_layers: layerCount.nullish(),
  num_hidden_layers: layerCount.nullish(),
  expansion_ratio: positive.default(4),
  max_seq_len: positionCount.default(2048),
  layer_norm_epsilon: positive.default(1e-5),
  norm_type: z
    .enum(["low_precision_layernorm", "layernorm"], "the norms known here are layernorm and low_precision_layernorm")
    .nullish(),
  no_bias: z.literal(true, "only models without biases are known here").nullish(),
  logit_scale: z.null("only models that do not scale their logits are known here").optional(),
  tie_word_embeddings: flag(true),
  ...textTokenFields,
});

// transformers ignores what is set otherwise in most of these, and computes another model.
const Attention = z.object({
  attn_type: z.literal("multihead_attention", "the attention known here is multihead_attention").nullish(),
  alibi: z.literal(true, "only models with ALiBi are known here").nullish(),
  alibi_bias_max: positive.default(8),
  qk_ln: z.literal(false, "norms on queries and keys are not known here").nullish(),
  prefix_lm: z.literal(false, "a prefix that sees what comes after it is not known here").nullish(),
  rope: z.literal(false, "only models with ALiBi are known here").nullish(),
  qk_gn: z.literal(false, "norms on queries and keys are not known here").nullish(),
  kv_n_heads: z.null("the attention known here is multihead_attention").optional(),
  sliding_window_size: z.literal(-1, "a sliding window is not known here").nullish(),
  attn_logit_softcapping: z.null("a limit of the scores is not known here").optional(),
  clip_qkv: z.number("it must be a number from 0 up").nonnegative("it must be a number from 0 up").nullish(),
  softmax_scale: positive.nullish(),
});

interface MptConfig extends ModelSizes {
  readonly intermediateSize: number;
  readonly epsilon: number;
  readonly slopes: readonly number[];
  /** Limit of queries, keys and values; null: none. */
  readonly clip: number | null;
  readonly scale: number;
  readonly tieWordEmbeddings: boolean;
}

function readMptConfig(config: ConfigFields): MptConfig {
  const found = parseFields(MptFile, config);
  const attention = parseFields(Attention, attentionSection(config));
  const hiddenSize = underEitherName(config, found, ["d_model", "hidden_size"]);
  const heads = underEitherName(config, found, ["n_heads", "num_attention_heads"]);
  const headDim = sharedHeadDim(config, ["d_model", "hidden_size"], hiddenSize, heads);
  const intermediateSize = hiddenSize * found.expansion_ratio;
  if (!width.safeParse(intermediateSize).success)
    throw fieldError(config, ["expansion_ratio"], `it makes the MLP ${intermediateSize} wide`);
  return {
    vocabSize: found.vocab_size,
    hiddenSize,
    intermediateSize,
    layers: underEitherName(config, found, ["n_layers", "num_hidden_layers"]),
    heads,
    kvHeads: heads,
    headDim,
    trainedLength: found.max_seq_len,
    epsilon: found.layer_norm_epsilon,
    slopes: alibiSlopes(heads, attention.alibi_bias_max),
    clip: attention.clip_qkv || null,
    scale: attention.softmax_scale ?? 1 / Math.sqrt(headDim),
    tieWordEmbeddings: found.tie_word_embeddings,
    ...textTokens(config, found),
  };
}

function attentionSection(config: ConfigFields): ConfigFields {
  const at = "attn_config";
  const values = config.values[at] ?? {};
  if (!isJsonObject(values)) throw fieldError(config, [at], "it must be an object");
  return { file: config.file, at, values };
}

/**
 * MPT: ALiBi, no biases anywhere. MosaicML 2023. Where a config asks for what transformers' port leaves out, the authors'
 * own code (llm-foundry) is followed, or the config refused.
 */
export const mpt: Architecture<MptConfig> = {
  modelType: "mpt",
  names: { base: "transformer.", embedding: "transformer.wte.weight", head: "lm_head.weight" },
  readConfig: readMptConfig,
  shape: (c) => alikeLayers(c, { kind: "alibi", slopes: c.slopes }),
  forward(pass, c) {
    const [d, wide] = [c.hiddenSize, c.intermediateSize];
    const norm = (x: string, name: string) => pass.layerNorm(x, name, c.epsilon, { bias: false });
    let h = pass.embed("transformer.wte", c.vocabSize, d); // [batch, tokens, d]
    for (let layer = 0; layer < c.layers; layer++) {
      const block = `transformer.blocks.${layer}`;
      h = pass.tap(hook.residPre(layer), h);
      const attentionOutput = selfAttention(pass, layer, c, norm(h, `${block}.norm_1`), {
        qkv: matrix(`${block}.attn.Wqkv`, { in: d, out: 3 * d }),
        out: matrix(`${block}.attn.out_proj`, { in: d, out: d }),
        clip: c.clip,
      });
      h = pass.tap(hook.residMid(layer), pass.add(h, pass.tap(hook.attnOut(layer), attentionOutput)));

      const inner = pass.linear(norm(h, `${block}.norm_2`), matrix(`${block}.ffn.up_proj`, { in: d, out: wide }));
      const mlpOutput = pass.linear(
        pass.activate("gelu", inner),
        matrix(`${block}.ffn.down_proj`, { in: wide, out: d }),
      );
      h = pass.tap(hook.residPost(layer), pass.add(h, pass.tap(hook.mlpOut(layer), mlpOutput)));
    }
    const last = norm(h, "transformer.norm_f");
    const name = c.tieWordEmbeddings ? "transformer.wte" : "lm_head";
    pass.unembed(last, { name, vocab: c.vocabSize, tied: c.tieWordEmbeddings }); // [wanted, vocab]
  },
};
