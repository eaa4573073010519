/** How a family of models that llama.cpp knows is called and laid out there, and what Hugging Face calls the same things. */
export interface GgufArchitecture {
  /** Hugging Face's. */
  readonly modelType: string;
  /** GGUF's names of tensors -> Hugging Face's; {} stands for the number of a layer. */
  readonly tensors: ReadonlyMap<string, string>;
  /**
   * Tensors (without ".weight" and ".bias") whose rows have the two rotary halves of each head interleaved: what Hugging
   * Face has in rows i and i + d/2 of a head stands in rows 2i and 2i + 1. With the number of heads that they have.
   */
  readonly interleaved: ReadonlyMap<string, "heads" | "kvHeads">;
  /**
   * Fields of the config that say that all of these have a bias, by GGUF's names without ".bias". Where some have one and
   * others not, the others' are zeros.
   */
  readonly biases: Readonly<Record<string, readonly string[]>>;
}

const COMMON: readonly (readonly [string, string])[] = [
  ["token_embd.weight", "model.embed_tokens.weight"],
  ["output_norm.weight", "model.norm.weight"],
  ["output.weight", "lm_head.weight"],
  ["blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"],
  ["blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"],
];
const ATTENTION: readonly (readonly [string, string])[] = [
  ["blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"],
  ["blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"],
  ["blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"],
  ["blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"],
];
const MLP: readonly (readonly [string, string])[] = [
  ["blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"],
  ["blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"],
  ["blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"],
];

const weights = (names: typeof MLP) => names.map(([gguf, hf]) => [`${gguf}.weight`, `${hf}.weight`] as const);
const biases = (names: typeof MLP) => names.map(([gguf, hf]) => [`${gguf}.bias`, `${hf}.bias`] as const);
const stems = (names: typeof MLP) => names.map(([gguf]) => gguf);

const DECODER = [...COMMON, ...weights(ATTENTION), ...weights(MLP)];

const llama: GgufArchitecture = {
  modelType: "llama",
  tensors: new Map([...DECODER, ...biases(ATTENTION), ...biases(MLP)]),
  interleaved: new Map([
    ["blk.{}.attn_q", "heads"],
    ["blk.{}.attn_k", "kvHeads"],
  ]),
  biases: { attention_bias: stems(ATTENTION), mlp_bias: stems(MLP) },
};

const qwen2: GgufArchitecture = {
  modelType: "qwen2",
  tensors: new Map([...DECODER, ...biases(ATTENTION.slice(0, 3))]),
  interleaved: new Map(),
  biases: {},
};

const qwen3: GgufArchitecture = {
  modelType: "qwen3",
  tensors: new Map([
    ...DECODER,
    ["blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"],
    ["blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"],
  ]),
  interleaved: new Map(),
  biases: {},
};

/** By general.architecture. Names of tensors: gguf-py's tensor_mapping.py. A further architecture is one more entry. */
export const GGUF_ARCHITECTURES: ReadonlyMap<string, GgufArchitecture> = new Map([
  ["llama", llama],
  ["qwen2", qwen2],
  ["qwen3", qwen3],
]);
