import { z } from "zod";
import { type Activation, ActivationName } from "../activation.js";
import { type ConfigFields, fieldError, parseFields, positive, whole } from "../config.js";
import { hook } from "../hooks.js";
import type { Architecture } from "./architecture.js";
import { matrix } from "./matrix.js";
import {
  alikeLayers,
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

const GptJFile = z.object({
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
  rotary_dim: whole(2, 4_096).default(64),
  layer_norm_epsilon: positive.default(1e-5),
  activation_function: ActivationName.default("gelu_tanh"),
  rotary: z.literal(true, "GPT-J's positions are rotary").nullish(),
  scale_attn_weights: z.literal(true, "GPT-J always scales its scores by 1 / sqrt(head size)").nullish(),
  tie_word_embeddings: z.literal(false, "GPT-J has an output matrix of its own, with a bias").nullish(),
  ...textTokenFields,
});

interface GptJConfig extends ModelSizes {
  readonly intermediateSize: number;
  readonly epsilon: number;
  readonly activation: Activation;
  /** Even, at most headDim. */
  readonly rotaryDim: number;
  readonly tieWordEmbeddings: false;
}

function readGptJConfig(config: ConfigFields): GptJConfig {
  const found = parseFields(GptJFile, config);
  const hiddenSize = underEitherName(config, found, ["n_embd", "hidden_size"]);
  const heads = underEitherName(config, found, ["n_head", "num_attention_heads"]);
  const headDim = sharedHeadDim(config, ["n_embd", "hidden_size"], hiddenSize, heads);
  if (found.rotary_dim > headDim || found.rotary_dim % 2 !== 0)
    throw fieldError(config, ["rotary_dim"], `it must be an even number up to the size of a head, which is ${headDim}`);
  return {
    vocabSize: found.vocab_size,
    hiddenSize,
    intermediateSize: found.n_inner ?? 4 * hiddenSize,
    layers: underEitherName(config, found, ["n_layer", "num_hidden_layers"]),
    heads,
    kvHeads: heads,
    headDim,
    trainedLength: underEitherNameOr(config, found, ["n_positions", "max_position_embeddings"], 2048),
    epsilon: found.layer_norm_epsilon,
    activation: found.activation_function,
    rotaryDim: found.rotary_dim,
    tieWordEmbeddings: false,
    ...textTokens(config, found),
  };
}

/**
 * GPT-J: one norm before attention and MLP, which run side by side; rotary positions that turn neighbouring dimensions.
 * Wang and Komatsuzaki 2021 (mesh-transformer-jax).
 */
export const gptJ: Architecture<GptJConfig> = {
  modelType: "gptj",
  names: { base: "transformer.", embedding: "transformer.wte.weight", head: "lm_head.weight" },
  readConfig: readGptJConfig,
  shape: (c) =>
    alikeLayers(c, {
      kind: "rotary",
      rope: { type: "default", theta: 10_000 },
      rotaryDim: c.rotaryDim,
      interleaved: true,
    }),
  forward(pass, c) {
    const [d, wide] = [c.hiddenSize, c.intermediateSize];
    const sizes = { heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, scale: 1 / Math.sqrt(c.headDim) };
    let h = pass.embed("transformer.wte", c.vocabSize, d); // [batch, tokens, d]
    for (let layer = 0; layer < c.layers; layer++) {
      const block = `transformer.h.${layer}`;
      h = pass.tap(hook.residPre(layer), h);
      const normed = pass.layerNorm(h, `${block}.ln_1`, c.epsilon, { bias: true });
      const attentionOutput = selfAttention(pass, layer, sizes, normed, {
        qkv: { parts: ["q", "k", "v"].map((x) => ({ name: `${block}.attn.${x}_proj`, out: d })), in: d },
        out: matrix(`${block}.attn.out_proj`, { in: d, out: d }),
      });
      const attended = pass.add(h, pass.tap(hook.attnOut(layer), attentionOutput));

      const inner = pass.linear(normed, matrix(`${block}.mlp.fc_in`, { in: d, out: wide, bias: true }));
      const mlpOutput = pass.linear(
        pass.activate(c.activation, inner),
        matrix(`${block}.mlp.fc_out`, { in: wide, out: d, bias: true }),
      );
      h = pass.tap(hook.residPost(layer), pass.add(attended, pass.tap(hook.mlpOut(layer), mlpOutput)));
    }
    const last = pass.layerNorm(h, "transformer.ln_f", c.epsilon, { bias: true });
    pass.unembed(last, { name: "lm_head", vocab: c.vocabSize, tied: false, bias: true }); // [wanted, vocab]
  },
};
