import { z } from "zod";
import { type Activation, ActivationName } from "../activation.js";
import { type ConfigFields, parseFields, positive } from "../config.js";
import { hook } from "../hooks.js";
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
  underEitherNameOr,
  vocabularySize,
  width,
} from "./model-sizes.js";
import { selfAttention } from "./self-attention.js";

const Gpt2File = z.object({
  vocab_size: vocabularySize,
  n_embd: width.nullish(),
  hidden_size: width.nullish(),
  n_inner: width.nullish(),
  n_layer: layerCount.nullish(),
  num_hidden_layers: layerCount.nullish(),
  n_head: headCount.nullish(),
  num_attention_heads: headCount.nullish(),
  n_positions: positionCount.nullish(),
  max_position_embeddings: positionCount.nullish(),
  layer_norm_epsilon: positive.default(1e-5),
  activation_function: ActivationName.default("gelu_tanh"),
  scale_attn_weights: flag(true),
  scale_attn_by_inverse_layer_idx: flag(false),
  add_cross_attention: z.literal(false, "a text has no other text to attend to here").nullish(),
  tie_word_embeddings: flag(true),
  ...textTokenFields,
});

interface Gpt2Config extends ModelSizes {
  readonly intermediateSize: number;
  readonly epsilon: number;
  readonly activation: Activation;
  /** Scores are divided by sqrt(headDim). */
  readonly scalesByHead: boolean;
  /** Scores of layer i, counted from 1, are divided by i. */
  readonly scalesByLayer: boolean;
  readonly tieWordEmbeddings: boolean;
}

/** `reorder_and_upcast_attn` is about rounding in half precision, where scores and softmax are f32 here anyway. */
function readGpt2Config(config: ConfigFields): Gpt2Config {
  const found = parseFields(Gpt2File, config);
  const hiddenSize = underEitherName(config, found, ["n_embd", "hidden_size"]);
  const heads = underEitherName(config, found, ["n_head", "num_attention_heads"]);
  return {
    vocabSize: found.vocab_size,
    hiddenSize,
    intermediateSize: found.n_inner ?? 4 * hiddenSize,
    layers: underEitherName(config, found, ["n_layer", "num_hidden_layers"]),
    heads,
    kvHeads: heads,
    headDim: sharedHeadDim(config, ["n_embd", "hidden_size"], hiddenSize, heads),
    trainedLength: underEitherNameOr(config, found, ["n_positions", "max_position_embeddings"], 1024),
    epsilon: found.layer_norm_epsilon,
    activation: found.activation_function,
    scalesByHead: found.scale_attn_weights,
    scalesByLayer: found.scale_attn_by_inverse_layer_idx,
    tieWordEmbeddings: found.tie_word_embeddings,
    ...textTokens(config, found),
  };
}

/**
 * GPT-2: learned positions, which a text cannot outgrow; matrices stored with inputs first. Radford et al. 2019,
 * "Language Models are Unsupervised Multitask Learners".
 */
export const gpt2: Architecture<Gpt2Config> = {
  modelType: "gpt2",
  names: { base: "transformer.", embedding: "transformer.wte.weight", head: "lm_head.weight" },
  readConfig: readGpt2Config,
  shape: (c) => alikeLayers(c, { kind: "none" }, c.trainedLength),
  forward(pass, c) {
    const [d, wide] = [c.hiddenSize, c.intermediateSize];
    const stored = { inOut: true, bias: true } as const;
    const norm = (x: string, name: string) => pass.layerNorm(x, name, c.epsilon, { bias: true });
    const positions = { name: "transformer.wpe", count: c.trainedLength };
    let h = pass.embed("transformer.wte", c.vocabSize, d, { positions }); // [batch, tokens, d]
    for (let layer = 0; layer < c.layers; layer++) {
      const block = `transformer.h.${layer}`;
      const scale = (c.scalesByHead ? 1 / Math.sqrt(c.headDim) : 1) / (c.scalesByLayer ? layer + 1 : 1);
      const sizes = { heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, scale };

      h = pass.tap(hook.residPre(layer), h);
      const attentionOutput = selfAttention(pass, layer, sizes, norm(h, `${block}.ln_1`), {
        qkv: matrix(`${block}.attn.c_attn`, { in: d, out: 3 * d, ...stored }),
        out: matrix(`${block}.attn.c_proj`, { in: d, out: d, ...stored }),
      });
      h = pass.tap(hook.residMid(layer), pass.add(h, pass.tap(hook.attnOut(layer), attentionOutput)));

      const inner = pass.linear(norm(h, `${block}.ln_2`), matrix(`${block}.mlp.c_fc`, { in: d, out: wide, ...stored }));
      const mlpOutput = pass.linear(
        pass.activate(c.activation, inner),
        matrix(`${block}.mlp.c_proj`, { in: wide, out: d, ...stored }),
      );
      h = pass.tap(hook.residPost(layer), pass.add(h, pass.tap(hook.mlpOut(layer), mlpOutput)));
    }
    const last = norm(h, "transformer.ln_f");
    const name = c.tieWordEmbeddings ? "transformer.wte" : "lm_head";
    pass.unembed(last, { name, vocab: c.vocabSize, tied: c.tieWordEmbeddings }); // [wanted, vocab]
  },
};
