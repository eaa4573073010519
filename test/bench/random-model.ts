import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A Llama's sizes. */
export interface LlamaSizes {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly vocab: number;
}

/** SmolLM2-135M: 30 layers, d 576, 9 query and 3 key-value heads of 64, feed-forward 1536, vocabulary 49152, tied. */
export const SMOLLM2: LlamaSizes = {
  layers: 30,
  hidden: 576,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
  intermediate: 1536,
  vocab: 49152,
};

/** Weights that a token is multiplied with in the layers: 2 floating-point operations each. */
export const layerWeights = ({ layers, hidden, heads, kvHeads, headDim, intermediate }: LlamaSizes): number =>
  layers * (hidden * (heads + 2 * kvHeads) * headDim + heads * headDim * hidden + 3 * hidden * intermediate);

/** Where benchmarks keep what is made once: models with random weights, and what is compiled of them. */
export const benchFolder = (name: string): string => join(tmpdir(), "lambdatap-bench", name);

/** A folder in Hugging Face layout with random weights (BF16), made if it is not there. */
export function randomLlama(sizes: LlamaSizes): string {
  const folder = benchFolder(`llama-${Object.values(sizes).join("-")}`);
  const file = join(folder, "model.safetensors");
  if (existsSync(file)) return folder;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(config(sizes)));
  const header: Record<string, unknown> = {};
  let bytes = 0;
  for (const [name, shape] of tensors(sizes)) {
    const size = shape.reduce((a, b) => a * b, 2);
    header[name] = { dtype: "BF16", shape, data_offsets: [bytes, bytes + size] };
    bytes += size;
  }
  const text = Buffer.from(JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const fd = openSync(`${file}.part`, "w");
  writeSync(fd, length);
  writeSync(fd, text);
  let state = 1;
  for (const [name, shape] of tensors(sizes)) {
    const values = new Uint16Array(shape.reduce((a, b) => a * b, 1));
    const scale = name.includes("norm") ? 0 : name.includes("embed") ? 1 : 1.7 / Math.sqrt(shape[1] ?? 1);
    const [as32, asFloat] = bits();
    for (let i = 0; i < values.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      asFloat[0] = scale === 0 ? 1 : (state / 2 ** 32 - 0.5) * 2 * scale;
      values[i] = (as32[0] ?? 0) >>> 16;
    }
    writeSync(fd, Buffer.from(values.buffer));
  }
  closeSync(fd);
  renameSync(`${file}.part`, file);
  return folder;
}

function bits(): [Uint32Array, Float32Array] {
  const buffer = new ArrayBuffer(4);
  return [new Uint32Array(buffer), new Float32Array(buffer)];
}

function config(sizes: LlamaSizes): Record<string, unknown> {
  return {
    model_type: "llama",
    hidden_size: sizes.hidden,
    intermediate_size: sizes.intermediate,
    num_hidden_layers: sizes.layers,
    num_attention_heads: sizes.heads,
    num_key_value_heads: sizes.kvHeads,
    head_dim: sizes.headDim,
    vocab_size: sizes.vocab,
    max_position_embeddings: 8192,
    rope_theta: 100000,
    rms_norm_eps: 1e-5,
    hidden_act: "silu",
    tie_word_embeddings: true,
  };
}

function tensors({ layers, hidden, heads, kvHeads, headDim, intermediate, vocab }: LlamaSizes): [string, number[]][] {
  const block = (layer: number): [string, number[]][] => {
    const name = (part: string) => `model.layers.${layer}.${part}.weight`;
    return [
      [name("input_layernorm"), [hidden]],
      [name("self_attn.q_proj"), [heads * headDim, hidden]],
      [name("self_attn.k_proj"), [kvHeads * headDim, hidden]],
      [name("self_attn.v_proj"), [kvHeads * headDim, hidden]],
      [name("self_attn.o_proj"), [hidden, heads * headDim]],
      [name("post_attention_layernorm"), [hidden]],
      [name("mlp.gate_proj"), [intermediate, hidden]],
      [name("mlp.up_proj"), [intermediate, hidden]],
      [name("mlp.down_proj"), [hidden, intermediate]],
    ];
  };
  return [
    ["model.embed_tokens.weight", [vocab, hidden]],
    ...Array.from({ length: layers }, (_, i) => block(i)).flat(),
    ["model.norm.weight", [hidden]],
  ];
}
