import { hook } from "../hooks.js";
import type { Architecture } from "./architecture.js";
import { type FalconConfig, readFalconConfig } from "./falcon-config.js";
import { fusedHeads } from "./fused-heads.js";
import { matrix } from "./matrix.js";
import { alikeLayers } from "./model-sizes.js";
import { selfAttention } from "./self-attention.js";

/** Names of the norms before attention and before the MLP. */
const NORMS = {
  sequential: ["input_layernorm", "post_attention_layernorm"],
  shared: ["input_layernorm", "input_layernorm"],
  apart: ["ln_attn", "ln_mlp"],
} as const;

/** Falcon: few key-value heads; attention and MLP side by side, or ALiBi and one after the other (RW). Almazrouei et al. 2023, arXiv 2311.16867. */
export const falcon: Architecture<FalconConfig> = {
  modelType: "falcon",
  names: { base: "transformer.", embedding: "transformer.word_embeddings.weight", head: "lm_head.weight" },
  readConfig: readFalconConfig,
  shape: (c) => alikeLayers(c, c.positions),
  forward(pass, c) {
    const [d, wide, bias] = [c.hiddenSize, c.intermediateSize, c.bias];
    const sizes = { heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, scale: 1 / Math.sqrt(c.headDim) };
    const [attentionNorm, mlpNorm] = NORMS[c.block];
    const norm = (x: string, name: string) => pass.layerNorm(x, name, c.epsilon, { bias: true });
    let h = pass.embed("transformer.word_embeddings", c.vocabSize, d); // [batch, tokens, d]
    for (let layer = 0; layer < c.layers; layer++) {
      const block = `transformer.h.${layer}`;
      h = pass.tap(hook.residPre(layer), h);
      const attentionInput = norm(h, `${block}.${attentionNorm}`);
      const attentionOutput = selfAttention(pass, layer, sizes, attentionInput, {
        qkv: matrix(`${block}.self_attention.query_key_value`, { in: d, bias, ...fusedHeads(c) }),
        out: matrix(`${block}.self_attention.dense`, { in: d, out: d, bias }),
      });
      const attended = pass.add(h, pass.tap(hook.attnOut(layer), attentionOutput));
      const middle = c.block === "sequential" ? pass.tap(hook.residMid(layer), attended) : attended;

      const mlpInput =
        c.block === "shared" ? attentionInput : norm(c.block === "apart" ? h : middle, `${block}.${mlpNorm}`);
      const inner = pass.linear(mlpInput, matrix(`${block}.mlp.dense_h_to_4h`, { in: d, out: wide, bias }));
      const mlpOutput = pass.linear(
        pass.activate(c.activation, inner),
        matrix(`${block}.mlp.dense_4h_to_h`, { in: wide, out: d, bias }),
      );
      h = pass.tap(hook.residPost(layer), pass.add(middle, pass.tap(hook.mlpOut(layer), mlpOutput)));
    }
    const last = norm(h, "transformer.ln_f");
    const name = c.tieWordEmbeddings ? "transformer.word_embeddings" : "lm_head";
    pass.unembed(last, { name, vocab: c.vocabSize, tied: c.tieWordEmbeddings }); // [wanted, vocab]
  },
};
