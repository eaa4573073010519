import { z } from "zod";
import { type Activation, ActivationName } from "../activation.js";
import { type ConfigFields, fieldError, parseFields, positive } from "../config.js";
import { hook } from "../hooks.js";
import type { RopeParameters } from "../rope.js";
import { partialRotaryFactor, type RopeSource, readRope } from "../rope-config.js";
import type { Architecture } from "./architecture.js";
import { fusedHeads } from "./fused-heads.js";
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
  vocabularySize,
  width,
} from "./model-sizes.js";
import { selfAttention } from "./self-attention.js";

const GptNeoXFile = z.object({
  vocab_size: vocabularySize,
  hidden_size: width,
  intermediate_size: width,
  num_hidden_layers: layerCount,
  num_attention_heads: headCount,
  layer_norm_eps: positive.default(1e-5),
  hidden_act: ActivationName.default("gelu"),
  max_position_embeddings: positionCount.default(2048),
  use_parallel_residual: flag(true),
  attention_bias: flag(true),
  tie_word_embeddings: flag(false),
  ...textTokenFields,
});

interface GptNeoXConfig extends ModelSizes {
  readonly intermediateSize: number;
  readonly epsilon: number;
  readonly activation: Activation;
  readonly rope: RopeParameters;
  /** Even. */
  readonly rotaryDim: number;
  /** Attention and MLP read the same residual. */
  readonly parallelResidual: boolean;
  readonly attentionBias: boolean;
  readonly tieWordEmbeddings: boolean;
}

/** Transformers 4's names of `partial_rotary_factor` and `rope_theta` come first. */
const ROPE: RopeSource = {
  names: { theta: ["rotary_emb_base", "rope_theta"], partialFactor: ["rotary_pct", "partial_rotary_factor"] },
  defaults: { partialFactor: 0.25 },
};

function readGptNeoXConfig(config: ConfigFields): GptNeoXConfig {
  const found = parseFields(GptNeoXFile, config);
  const headDim = sharedHeadDim(config, ["hidden_size"], found.hidden_size, found.num_attention_heads);
  const rotaryDim = Math.floor(headDim * partialRotaryFactor(config, ROPE));
  if (rotaryDim < 2 || rotaryDim % 2 !== 0)
    throw fieldError(
      config,
      ["rotary_pct"],
      `${rotaryDim} of ${headDim} dimensions would rotate, but they must be pairs`,
    );
  return {
    vocabSize: found.vocab_size,
    hiddenSize: found.hidden_size,
    intermediateSize: found.intermediate_size,
    layers: found.num_hidden_layers,
    heads: found.num_attention_heads,
    kvHeads: found.num_attention_heads,
    headDim,
    trainedLength: found.max_position_embeddings,
    epsilon: found.layer_norm_eps,
    activation: found.hidden_act,
    rope: readRope(config, { ...ROPE, rotaryDim, maxPositionEmbeddings: found.max_position_embeddings }),
    rotaryDim,
    parallelResidual: found.use_parallel_residual,
    attentionBias: found.attention_bias,
    tieWordEmbeddings: found.tie_word_embeddings,
    ...textTokens(config, found),
  };
}

/**
 * GPT-NeoX and Pythia: rotary positions in a share of each head's dimensions, attention and MLP side by side. Black et al.
 * 2022, arXiv 2204.06745.
 */
export const gptNeoX: Architecture<GptNeoXConfig> = {
  modelType: "gpt_neox",
  names: {
    base: "gpt_neox.",
    embedding: "gpt_neox.embed_in.weight",
    head: "embed_out.weight",
    renamed: [["lm_head.", "embed_out."]],
  },
  readConfig: readGptNeoXConfig,
  shape: (c) => alikeLayers(c, { kind: "rotary", rope: c.rope, rotaryDim: c.rotaryDim }),
  forward(pass, c) {
    const [d, wide, bias] = [c.hiddenSize, c.intermediateSize, c.attentionBias];
    const sizes = { heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, scale: 1 / Math.sqrt(c.headDim) };
    const norm = (x: string, name: string) => pass.layerNorm(x, name, c.epsilon, { bias: true });
    let h = pass.embed("gpt_neox.embed_in", c.vocabSize, d); // [batch, tokens, d]
    for (let layer = 0; layer < c.layers; layer++) {
      const block = `gpt_neox.layers.${layer}`;
      h = pass.tap(hook.residPre(layer), h);
      const attentionOutput = selfAttention(pass, layer, sizes, norm(h, `${block}.input_layernorm`), {
        qkv: matrix(`${block}.attention.query_key_value`, { in: d, bias, ...fusedHeads(c) }),
        out: matrix(`${block}.attention.dense`, { in: d, out: d, bias }),
      });
      const attended = pass.add(h, pass.tap(hook.attnOut(layer), attentionOutput));
      const middle = c.parallelResidual ? attended : pass.tap(hook.residMid(layer), attended);

      const mlpInput = norm(c.parallelResidual ? h : middle, `${block}.post_attention_layernorm`);
      const inner = pass.linear(mlpInput, matrix(`${block}.mlp.dense_h_to_4h`, { in: d, out: wide, bias: true }));
      const mlpOutput = pass.linear(
        pass.activate(c.activation, inner),
        matrix(`${block}.mlp.dense_4h_to_h`, { in: wide, out: d, bias: true }),
      );
      h = pass.tap(hook.residPost(layer), pass.add(middle, pass.tap(hook.mlpOut(layer), mlpOutput)));
    }
    const last = norm(h, "gpt_neox.final_layer_norm");
    const name = c.tieWordEmbeddings ? "gpt_neox.embed_in" : "embed_out";
    pass.unembed(last, { name, vocab: c.vocabSize, tied: c.tieWordEmbeddings }); // [wanted, vocab]
  },
};
