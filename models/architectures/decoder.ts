import type { AttentionSizes, QueryKeyValue } from "../attention/attention.js";
import type { Embedding, Forward, Gain } from "../forward.js";
import { hook } from "../hooks.js";
import type { Value } from "../onnx/graph.js";
import type { TensorNames } from "../weights/tensor-names.js";
import type { DecoderConfig } from "./decoder-config.js";

export const DECODER_NAMES: TensorNames = {
  base: "model.",
  embedding: "model.embed_tokens.weight",
  head: "lm_head.weight",
};

/** Where its tensors are in the whole model, and whether gains of norms are stored as their distance from 1. */
interface DecoderOptions {
  readonly base?: string;
  readonly plusOne?: boolean;
}

/** A decoder whose tensors are named as Llama's are, in the words that Llama's relatives are written in. */
export function decoder(pass: Forward, c: DecoderConfig, { base = "model", plusOne = false }: DecoderOptions = {}) {
  const embedding = `${base}.embed_tokens`;
  return {
    /** [batch, tokens, d]. */
    embed: (as: Embedding = {}) => pass.embed(embedding, c.vocabSize, c.hiddenSize, as),
    layers: Array.from(
      { length: c.layers },
      (_, layer) => new DecoderLayer(pass, c, layer, `${base}.layers.${layer}`, { plusOne }),
    ),
    /** The last norm and the output head; logits are limited to +-cap. */
    unembed(h: Value, cap: number | null = null): void {
      const tied = c.tieWordEmbeddings;
      const name = tied ? embedding : "lm_head";
      pass.unembed(pass.rmsNorm(h, `${base}.norm`, c.rmsNormEps, { plusOne }), {
        name,
        vocab: c.vocabSize,
        tied,
        cap,
      });
    },
  };
}

/** One layer: its norms, its attention and its gated MLP. Hidden values are [batch, tokens, d]. */
class DecoderLayer {
  constructor(
    readonly pass: Forward,
    readonly c: DecoderConfig,
    readonly layer: number,
    readonly name: string,
    readonly gain: Gain,
  ) {}

  /** The residual stream as the layer finds it. */
  enter(h: Value): Value {
    return this.pass.tap(hook.residPre(this.layer), h);
  }

  /** RMS norm over the last axis, which has `size` numbers. */
  norm(name: string, x: Value, size = this.c.hiddenSize): Value {
    return this.pass.rmsNorm(x, `${this.name}.${name}`, this.c.rmsNormEps, { ...this.gain, size });
  }

  /** Linear maps of one input, side by side: their names, and how many outputs each has. */
  linear(x: Value, maps: Readonly<Record<string, number>>, columns: number, bias: boolean): Value {
    const parts = Object.entries(maps).map(([name, out]) => ({ name: `${this.name}.${name}`, out }));
    return this.pass.linear(x, { parts, in: columns, bias });
  }

  /** Queries, keys and values, [batch, tokens, (heads + 2 kvHeads) * headDim]; as one map or three. */
  project(x: Value, fused?: Readonly<Record<string, number>>): Value {
    const { heads, kvHeads, headDim, hiddenSize, biases } = this.c;
    const [queries, keys] = [heads * headDim, kvHeads * headDim];
    const maps = fused ?? { "self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys };
    return this.pass.tapProjection(this.layer, this.c, this.linear(x, maps, hiddenSize, biases.queryKeyValue));
  }

  /** Cuts what `project` gives: [batch, heads, tokens, headDim] each. */
  byHead(projected: Value): QueryKeyValue {
    const { heads, kvHeads, headDim } = this.c;
    const [query = "", key = "", value = ""] = this.pass.attention.splitHeads(
      projected,
      [heads, kvHeads, kvHeads],
      headDim,
    );
    return { query, key, value };
  }

  /** Norms over each head of the queries and keys. Dehghani et al. 2023, arXiv 2302.05442. */
  normHeads({ query, key, value }: QueryKeyValue): QueryKeyValue {
    const { headDim } = this.c;
    return {
      query: this.norm("self_attn.q_norm", query, headDim),
      key: this.norm("self_attn.k_norm", key, headDim),
      value,
    };
  }

  /** Attention with its output map. */
  attend(qkv: QueryKeyValue, scores: Partial<Pick<AttentionSizes, "scale" | "softcap">> = {}): Value {
    const { heads, kvHeads, headDim, hiddenSize, biases } = this.c;
    const sizes = { heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim), ...scores };
    const attended = this.pass.attention.attend(this.layer, sizes, qkv); // [batch, tokens, heads * headDim]
    const tapped = this.pass.tapAttended(this.layer, sizes, attended);
    return this.linear(tapped, { "self_attn.o_proj": hiddenSize }, heads * headDim, biases.attentionOutput);
  }

  addAttention(h: Value, out: Value): Value {
    const { pass, layer } = this;
    return pass.tap(hook.residMid(layer), pass.add(h, pass.tap(hook.attnOut(layer), out)));
  }

  /** down(activation(gate(x)) * up(x)); gate and up as one map or two. */
  mlp(x: Value, gateUp?: Readonly<Record<string, number>>): Value {
    const { intermediateSize: wide, hiddenSize, biases, activation } = this.c;
    const maps = gateUp ?? { "mlp.gate_proj": wide, "mlp.up_proj": wide };
    const [gate = "", up = ""] = this.pass.split(this.linear(x, maps, hiddenSize, biases.mlp), [wide, wide]);
    return this.linear(this.pass.gated(activation, gate, up), { "mlp.down_proj": hiddenSize }, wide, biases.mlp);
  }

  addMlp(h: Value, out: Value): Value {
    const { pass, layer } = this;
    return pass.tap(hook.residPost(layer), pass.add(h, pass.tap(hook.mlpOut(layer), out)));
  }
}
