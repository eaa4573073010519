import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { type LlamaSizes, randomWeights } from "../models/random-model.js";
import { benchFolder } from "./bench-model.js";

/** Types of a block of 32 weights, as ggml numbers them, with their bytes. */
const TYPES = { F32: [0, 128], Q8_0: [8, 34], Q4_0: [2, 18], Q4_1: [3, 20] } as const;
type BlockType = keyof typeof TYPES;

/** Types of the matrices of the layers, and of the embedding, which is the output head too. */
export interface GgufTypes {
  readonly layers: BlockType;
  readonly embedding: BlockType;
}

interface Tensor {
  readonly name: string;
  /** Fastest first, as GGUF has it. */
  readonly dimensions: readonly number[];
  readonly type: BlockType;
}

/** A Llama of random weights with a tied head as a GGUF file (version 3), made if it is not there. Any reader of the format takes it. */
export function randomGguf(sizes: LlamaSizes, types: GgufTypes): string {
  const path = benchFolder(`llama-${types.layers}-${types.embedding}-${Object.values(sizes).join("-")}.gguf`);
  if (existsSync(path)) return path;
  mkdirSync(dirname(path), { recursive: true });
  const temporary = join(dirname(path), `unfinished-${process.pid}.gguf`);
  const tensors = [...tensorsOf(sizes, types)];
  const fd = openSync(temporary, "w");
  try {
    const infos: Buffer[] = [];
    let offset = 0;
    for (const { name, dimensions, type } of tensors) {
      infos.push(text(name), u32(dimensions.length), ...dimensions.map(u64), u32(TYPES[type][0]), u64(offset));
      offset = align(offset + bytesOf(dimensions, type));
    }
    const metadata = metadataOf(sizes);
    const head = Buffer.concat([
      Buffer.from("GGUF"),
      u32(3),
      u64(tensors.length),
      u64(metadata.length),
      ...metadata,
      ...infos,
    ]);
    writeSync(fd, Buffer.concat([head, Buffer.alloc(align(head.length) - head.length)]));
    for (const [seed, { dimensions, type }] of tensors.entries()) {
      const bytes = bytesOf(dimensions, type);
      writeRandom(fd, bytes, type, dimensions[0] ?? 1, seed);
      writeSync(fd, Buffer.alloc(align(bytes) - bytes));
    }
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  return path;
}

function* tensorsOf(
  { layers, hidden, heads, kvHeads, headDim, intermediate, vocab }: LlamaSizes,
  types: GgufTypes,
): Generator<Tensor> {
  const matrix = (name: string, inputs: number, outputs: number, type = types.layers): Tensor => ({
    name: `${name}.weight`,
    dimensions: [inputs, outputs],
    type,
  });
  const norm = (name: string): Tensor => ({ name: `${name}.weight`, dimensions: [hidden], type: "F32" });
  yield matrix("token_embd", hidden, vocab, types.embedding);
  for (let layer = 0; layer < layers; layer++) {
    const block = `blk.${layer}`;
    yield norm(`${block}.attn_norm`);
    yield matrix(`${block}.attn_q`, hidden, heads * headDim);
    yield matrix(`${block}.attn_k`, hidden, kvHeads * headDim);
    yield matrix(`${block}.attn_v`, hidden, kvHeads * headDim);
    yield matrix(`${block}.attn_output`, heads * headDim, hidden);
    yield norm(`${block}.ffn_norm`);
    yield matrix(`${block}.ffn_gate`, hidden, intermediate);
    yield matrix(`${block}.ffn_up`, hidden, intermediate);
    yield matrix(`${block}.ffn_down`, intermediate, hidden);
  }
  yield norm("output_norm");
}

function metadataOf({ layers, hidden, heads, kvHeads, headDim, intermediate, vocab }: LlamaSizes): Buffer[] {
  const tokens = vocabulary(vocab);
  const [U32, F32, STRING, I32] = [4, 6, 8, 5];
  const entry = (key: string, type: number, value: Buffer) => Buffer.concat([text(key), u32(type), value]);
  const list = (key: string, type: number, values: readonly Buffer[]) =>
    entry(key, 9, Buffer.concat([u32(type), u64(values.length), ...values]));
  return [
    entry("general.architecture", STRING, text("llama")),
    entry("general.name", STRING, text("random")),
    entry("llama.block_count", U32, u32(layers)),
    entry("llama.context_length", U32, u32(8192)),
    entry("llama.embedding_length", U32, u32(hidden)),
    entry("llama.feed_forward_length", U32, u32(intermediate)),
    entry("llama.attention.head_count", U32, u32(heads)),
    entry("llama.attention.head_count_kv", U32, u32(kvHeads)),
    entry("llama.attention.key_length", U32, u32(headDim)),
    entry("llama.attention.value_length", U32, u32(headDim)),
    entry("llama.rope.dimension_count", U32, u32(headDim)),
    entry("llama.rope.freq_base", F32, f32(100_000)),
    entry("llama.attention.layer_norm_rms_epsilon", F32, f32(1e-5)),
    entry("llama.vocab_size", U32, u32(vocab)),
    entry("tokenizer.ggml.model", STRING, text("gpt2")),
    entry("tokenizer.ggml.pre", STRING, text("smollm")),
    list("tokenizer.ggml.tokens", STRING, tokens.map(text)),
    list(
      "tokenizer.ggml.token_type",
      I32,
      tokens.map((_, id) => u32(id === 0 ? 3 : 1)),
    ),
    list(
      "tokenizer.ggml.merges",
      STRING,
      tokens.slice(257).map((token) => text([...token].join(" "))),
    ),
    entry("tokenizer.ggml.bos_token_id", U32, u32(0)),
    entry("tokenizer.ggml.eos_token_id", U32, u32(0)),
  ];
}

/** An end of text, the 256 letters of GPT-2's byte alphabet, then pairs of them. */
function vocabulary(size: number): string[] {
  const letters: string[] = [];
  for (let byte = 0, moved = 256; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    letters.push(String.fromCharCode(printable ? byte : moved++));
  }
  const pairs = Array.from({ length: Math.max(0, size - 257) }, (_, i) => `${letters[i >> 8]}${letters[i & 255]}`);
  return ["<|end|>", ...letters, ...pairs].slice(0, size);
}

/**
 * Weights of about 1 / sqrt(inputs), a megabyte of them over and over; norms are 1. No two tensors are alike: ONNX Runtime
 * keeps packed weights that are equal once.
 */
function writeRandom(fd: number, bytes: number, type: BlockType, inputs: number, seed: number): void {
  const blocks = Math.min(32_768, bytes / TYPES[type][1]);
  const scale = 1 / Math.sqrt(inputs);
  const noise = randomWeights(blocks * 32, seed);
  const piece = new Uint8Array(blocks * TYPES[type][1]);
  const view = new DataView(piece.buffer);
  for (let block = 0; block < blocks; block++) {
    const at = block * TYPES[type][1];
    const value = (i: number) => noise[block * 32 + i] ?? 0;
    if (type === "F32") {
      for (let i = 0; i < 32; i++) view.setFloat32(at + 4 * i, value(i) * scale, true);
      continue;
    }
    const steps = type === "Q8_0" ? 127 : 8;
    view.setUint16(at, half(scale / steps), true);
    if (type === "Q4_1") view.setUint16(at + 2, half(-scale), true);
    const data = at + (type === "Q4_1" ? 4 : 2);
    for (let i = 0; i < at + TYPES[type][1] - data; i++)
      piece[data + i] = type === "Q8_0" ? Math.round(value(i) * 127) & 255 : Math.floor((value(i) + 1) * 128) & 255;
  }
  if (type === "F32" && bytes < 65_536) for (let i = 0; i < piece.length; i += 4) view.setFloat32(i, 1, true);
  for (let written = 0; written < bytes; written += piece.length)
    writeSync(fd, piece.subarray(0, Math.min(piece.length, bytes - written)));
}

/** binary16 of a number that is normal in it, cut, not rounded. */
function half(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;
  return ((bits >>> 16) & 0x8000) | (((((bits >>> 23) & 0xff) - 112) << 10) & 0x7c00) | ((bits >>> 13) & 0x3ff);
}

const bytesOf = (dimensions: readonly number[], type: BlockType): number =>
  (dimensions.reduce((a, b) => a * b, 1) / 32) * TYPES[type][1];
const align = (offset: number): number => Math.ceil(offset / 32) * 32;
function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
