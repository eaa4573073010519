import { z } from "zod";
import { alibiSlopes } from "../alibi.js";
import { type ConfigFields, parseFields, positive } from "../config.js";
import { hook } from "../hooks.js";
import type { Architecture } from "./architecture.js";
import { fusedHeads } from "./fused-heads.js";
import { matrix } from "./matrix.js";
import {
  alikeLayers,
  flag,
  headCount,
  layerCount,
  type ModelSizes,
  sharedHeadDim,
  textTokenFields,
  textTokens,
  underEitherName,
  vocabularySize,
  width,
} from "./model-sizes.js";
import { selfAttention } from "./self-attention.js";

/** Of every published BLOOM; configs as transformers 5 writes them do not say it. */
const TRAINED_LENGTH = 2048;

const BloomFile = z.object({
  vocab_size: vocabularySize,
  hidden_size: width.nullish(),
  n_embed: width.nullish(),
  n_layer: layerCount.nullish(),
  num_hidden_layers: layerCount.nullish(),
  n_head: headCount.nullish(),
  num_attention_heads: headCount.nullish(),
  layer_norm_epsilon: positive.default(1e-5),
  apply_residual_connection_post_layernorm: z
    .literal(false, "only residuals from before the norm are known here")
    .nullish(),
  tie_word_embeddings: flag(true),
  ...textTokenFields,
});

interface BloomConfig extends ModelSizes {
  readonly epsilon: number;
  readonly tieWordEmbeddings: boolean;
}

function readBloomConfig(config: ConfigFields): BloomConfig {
  const found = parseFields(BloomFile, config);
  const hiddenSize = underEitherName(config, found, ["hidden_size", "n_embed"]);
  const heads = underEitherName(config, found, ["n_head", "num_attention_heads"]);
  return {
    vocabSize: found.vocab_size,
    hiddenSize,
    layers: underEitherName(config, found, ["n_layer", "num_hidden_layers"]),
    heads,
    kvHeads: heads,
    headDim: sharedHeadDim(config, ["hidden_size", "n_embed"], hiddenSize, heads),
    trainedLength: TRAINED_LENGTH,
    epsilon: found.layer_norm_epsilon,
    tieWordEmbeddings: found.tie_word_embeddings,
    ...textTokens(config, found),
  };
}

/** BLOOM: ALiBi, and a norm on the embedding. BigScience 2022, arXiv 2211.05100. */
export const bloom: Architecture<BloomConfig> = {
  modelType: "bloom",
  names: { base: "transformer.", embedding: "transformer.word_embeddings.weight", head: "lm_head.weight" },
  readConfig: readBloomConfig,
  // The norm of the embedding adds a mean of its own to the stream.
  shape: (c) => ({ ...alikeLayers(c, { kind: "alibi", slopes: alibiSlopes(c.heads) }), ignoresMean: "partly" }),
  forward(pass, c) {
    const d = c.hiddenSize;
    const sizes = { heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, scale: 1 / Math.sqrt(c.headDim) };
    const norm = (x: string, name: string) => pass.layerNorm(x, name, c.epsilon, { bias: true });
    const embedded = pass.embed("transformer.word_embeddings", c.vocabSize, d);
    let h = norm(embedded, "transformer.word_embeddings_layernorm"); // [batch, tokens, d]
    for (let layer = 0; layer < c.layers; layer++) {
      const block = `transformer.h.${layer}`;
      h = pass.tap(hook.residPre(layer), h);
      const attentionOutput = selfAttention(pass, layer, sizes, norm(h, `${block}.input_layernorm`), {
        qkv: matrix(`${block}.self_attention.query_key_value`, { in: d, bias: true, ...fusedHeads(c) }),
        out: matrix(`${block}.self_attention.dense`, { in: d, out: d, bias: true }),
      });
      h = pass.tap(hook.residMid(layer), pass.add(h, pass.tap(hook.attnOut(layer), attentionOutput)));

      const inner = pass.linear(
        norm(h, `${block}.post_attention_layernorm`),
        matrix(`${block}.mlp.dense_h_to_4h`, { in: d, out: 4 * d, bias: true }),
      );
      const mlpOutput = pass.linear(
        pass.activate("gelu_tanh", inner),
        matrix(`${block}.mlp.dense_4h_to_h`, { in: 4 * d, out: d, bias: true }),
      );
      h = pass.tap(hook.residPost(layer), pass.add(h, pass.tap(hook.mlpOut(layer), mlpOutput)));
    }
    const last = norm(h, "transformer.ln_f");
    const name = c.tieWordEmbeddings ? "transformer.word_embeddings" : "lm_head";
    pass.unembed(last, { name, vocab: c.vocabSize, tied: c.tieWordEmbeddings }); // [wanted, vocab]
  },
};
