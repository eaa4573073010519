import { f32, type WrittenTensor, writeGguf } from "./write-gguf.js";

const SIZES = { hidden: 32, heads: 4, kvHeads: 2, headDim: 8, wide: 32, vocabulary: 48 };

/** Whole numbers that say where they stand, so that every row and column is recognised. */
const counted = (...dimensions: number[]): WrittenTensor =>
  f32(
    dimensions,
    Float32Array.from({ length: dimensions.reduce((a, b) => a * b) }, (_, i) => i % 4099),
  );

/** Metadata of one layer of a Llama-like architecture. */
export const metadataOf = (architecture: string) => ({
  "general.architecture": architecture,
  [`${architecture}.block_count`]: { uint32: 1 },
  [`${architecture}.context_length`]: { uint32: 64 },
  [`${architecture}.embedding_length`]: { uint32: SIZES.hidden },
  [`${architecture}.feed_forward_length`]: { uint32: SIZES.wide },
  [`${architecture}.attention.head_count`]: { uint32: SIZES.heads },
  [`${architecture}.attention.head_count_kv`]: { uint32: SIZES.kvHeads },
  [`${architecture}.attention.layer_norm_rms_epsilon`]: { float32: 1e-5 },
});

/** Its tensors. */
export function tensorsOf(): Record<string, WrittenTensor> {
  const { hidden, heads, kvHeads, headDim, wide, vocabulary } = SIZES;
  return {
    "token_embd.weight": counted(vocabulary, hidden),
    "blk.0.attn_norm.weight": counted(hidden),
    "blk.0.attn_q.weight": counted(heads * headDim, hidden),
    "blk.0.attn_k.weight": counted(kvHeads * headDim, hidden),
    "blk.0.attn_v.weight": counted(kvHeads * headDim, hidden),
    "blk.0.attn_output.weight": counted(hidden, heads * headDim),
    "blk.0.ffn_norm.weight": counted(hidden),
    "blk.0.ffn_gate.weight": counted(wide, hidden),
    "blk.0.ffn_up.weight": counted(wide, hidden),
    "blk.0.ffn_down.weight": counted(hidden, wide),
    "output_norm.weight": counted(hidden),
  };
}

/** A model of that architecture with further or other metadata and tensors. */
export const writeModel = (
  path: string,
  {
    architecture = "llama",
    metadata = {},
    tensors = {},
  }: {
    architecture?: string;
    metadata?: Parameters<typeof writeGguf>[1];
    tensors?: Readonly<Record<string, WrittenTensor>>;
  },
): string => writeGguf(path, { ...metadataOf(architecture), ...metadata }, { ...tensorsOf(), ...tensors });
