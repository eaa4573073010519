import { hook } from "../hooks.js";
import type { Architecture } from "./architecture.js";
import { type LlamaConfig, readLlamaConfig } from "./llama-config.js";

/** Llama 1-3: pre-norm blocks, rotary positions, grouped-query attention, SwiGLU. Touvron et al. 2023, arXiv 2302.13971. */
export const llama: Architecture<LlamaConfig> = {
  modelType: "llama",
  readConfig: readLlamaConfig,
  shape: (c) => ({
    vocabSize: c.vocabSize,
    hiddenSize: c.hiddenSize,
    layers: c.layers,
    kvHeads: c.kvHeads,
    headDim: c.headDim,
    trainedLength: c.maxPositionEmbeddings,
    bosTokenId: c.bosTokenId,
    eosTokenIds: c.eosTokenIds,
    geometries: [{ window: "lambda", positions: { kind: "rotary", rope: c.rope, rotaryDim: c.headDim } }],
    layerGeometries: Array.from({ length: c.layers }, () => 0),
    learnedPositions: null,
    postNorm: false,
  }),
  forward(pass, c) {
    const [queries, keys] = [c.heads * c.headDim, c.kvHeads * c.headDim];
    const sizes = { heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, scale: 1 / Math.sqrt(c.headDim) };
    let h = pass.embed("model.embed_tokens", c.vocabSize, c.hiddenSize); // [batch, tokens, d]
    for (let layer = 0; layer < c.layers; layer++) {
      const block = `model.layers.${layer}`;
      const linear = (x: string, names: Record<string, number>, columns: number, bias: boolean) =>
        pass.linear(x, {
          parts: Object.entries(names).map(([name, out]) => ({ name: `${block}.${name}`, out })),
          in: columns,
          bias,
        });

      h = pass.tap(hook.residPre(layer), h);
      const attentionInput = pass.rmsNorm(h, `${block}.input_layernorm`, c.rmsNormEps);
      const projections = { "self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys };
      const [query = "", key = "", value = ""] = pass.attention.splitHeads(
        linear(attentionInput, projections, c.hiddenSize, c.attentionBias),
        [c.heads, c.kvHeads, c.kvHeads],
        c.headDim,
      ); // [batch, heads, tokens, headDim]
      const attended = pass.attention.attend(layer, sizes, { query, key, value }); // [batch, tokens, heads * headDim]
      const attentionOutput = linear(attended, { "self_attn.o_proj": c.hiddenSize }, queries, c.attentionBias);
      h = pass.tap(hook.residMid(layer), pass.add(h, pass.tap(hook.attnOut(layer), attentionOutput)));

      const mlpInput = pass.rmsNorm(h, `${block}.post_attention_layernorm`, c.rmsNormEps);
      const wide = c.intermediateSize;
      const [gate = "", up = ""] = pass.split(
        linear(mlpInput, { "mlp.gate_proj": wide, "mlp.up_proj": wide }, c.hiddenSize, c.mlpBias),
        [wide, wide],
      );
      const mlpOutput = linear(pass.gated("silu", gate, up), { "mlp.down_proj": c.hiddenSize }, wide, c.mlpBias);
      h = pass.tap(hook.residPost(layer), pass.add(h, pass.tap(hook.mlpOut(layer), mlpOutput)));
    }
    const head = c.tieWordEmbeddings ? "model.embed_tokens" : "lm_head";
    const last = pass.rmsNorm(h, "model.norm", c.rmsNormEps);
    pass.unembed(last, { name: head, vocab: c.vocabSize, tied: c.tieWordEmbeddings }); // [wanted, vocab]
  },
};
