import { closeSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Numbers in [-scale, scale), the same for the same seed (mulberry32). */
export function randomWeights(length: number, seed: number, scale = 1): Float32Array {
  const values = new Float32Array(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    values[i] = scale * (((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1);
  }
  return values;
}

interface WrittenTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Writes an F32 safetensors file tensor by tensor, so that a large one needs no memory. */
export function writeTensors(
  path: string,
  tensors: Iterable<WrittenTensor>,
  shapes: readonly Omit<WrittenTensor, "values">[] = [...tensors],
): void {
  let end = 0;
  const entries = shapes.map(({ name, shape }) => {
    const begin = end;
    end += shape.reduce((a, b) => a * b, 4);
    return [name, { dtype: "F32", shape, data_offsets: [begin, end] }] as const;
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const fd = openSync(path, "w");
  try {
    for (const piece of [length, header]) writeSync(fd, piece);
    for (const { values } of tensors)
      writeSync(fd, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  } finally {
    closeSync(fd);
  }
}

/** Sizes of a Llama. */
export interface LlamaSizes {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly vocab: number;
}

/** What config.json says of a Llama. @param tied whether its head is */
export const llamaConfig = (sizes: LlamaSizes, tied: boolean) => ({
  model_type: "llama",
  vocab_size: sizes.vocab,
  hidden_size: sizes.hidden,
  intermediate_size: sizes.intermediate,
  num_hidden_layers: sizes.layers,
  num_attention_heads: sizes.heads,
  num_key_value_heads: sizes.kvHeads,
  head_dim: sizes.headDim,
  max_position_embeddings: 8192,
  tie_word_embeddings: tied,
  bos_token_id: 0,
});

/** Writes a Llama with random weights in Hugging Face layout (F32), its head tied or not. */
export function writeRandomLlama(folder: string, sizes: LlamaSizes, { seed = 1, tied = false } = {}): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(llamaConfig(sizes, tied)));
  const shapes = tensorShapes(sizes, tied);
  const weights = function* () {
    for (const [i, { name, shape }] of shapes.entries()) {
      const elements = shape.reduce((a, b) => a * b, 1);
      const spread = shape.length === 1 ? 1 : 1.7 / Math.sqrt(sizes.hidden);
      yield { name, shape, values: randomWeights(elements, seed * 1000 + i, spread) };
    }
  };
  const file = join(folder, "model.safetensors");
  writeTensors(`${file}.part`, weights(), shapes);
  renameSync(`${file}.part`, file);
}

function tensorShapes({ layers, hidden, heads, kvHeads, headDim, intermediate, vocab }: LlamaSizes, tied: boolean) {
  const shapes = [
    { name: "model.embed_tokens.weight", shape: [vocab, hidden] },
    { name: "model.norm.weight", shape: [hidden] },
    ...(tied ? [] : [{ name: "lm_head.weight", shape: [vocab, hidden] }]),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const add = (name: string, ...shape: number[]) =>
      shapes.push({ name: `model.layers.${layer}.${name}.weight`, shape });
    add("input_layernorm", hidden);
    add("post_attention_layernorm", hidden);
    add("self_attn.q_proj", heads * headDim, hidden);
    add("self_attn.k_proj", kvHeads * headDim, hidden);
    add("self_attn.v_proj", kvHeads * headDim, hidden);
    add("self_attn.o_proj", hidden, heads * headDim);
    add("mlp.gate_proj", intermediate, hidden);
    add("mlp.up_proj", intermediate, hidden);
    add("mlp.down_proj", hidden, intermediate);
  }
  return shapes;
}
