import { copyFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { DECODERS } from "../../../models/gguf/decoders.js";
import { readGgufHeader } from "../../../models/gguf/gguf-header.js";
import { openTensorData } from "../../../models/gguf/tensor-data.js";
import { openModelSource } from "../../../models/model-source.js";
import type { Checkpoint } from "../../../models/weights/checkpoint.js";
import { maxDifference } from "../../golden-tensors.js";
import { temporaryFolder, thrownBy } from "../weights/write-safetensors.js";
import { goldenGguf } from "./golden-gguf.js";
import { writeModel } from "./llama-file.js";
import { f32 } from "./write-gguf.js";

const open = (path: string): Checkpoint => openModelSource(path).openCheckpoint();
const written = (options: Parameters<typeof writeModel>[1] = {}) =>
  writeModel(join(temporaryFolder(), "a.gguf"), options);

const PROJECTION = /self_attn\.([qk])_proj/;

/** Row of the file at which Hugging Face's row of a q or k projection stands. */
function storedRow(row: number, headDim: number): number {
  const [head, within] = [Math.floor(row / headDim), row % headDim];
  const [half, pair] = [Math.floor(within / (headDim / 2)), within % (headDim / 2)];
  return head * headDim + 2 * pair + half;
}

describe("weights of a GGUF file under Hugging Face's names", () => {
  const weights = open(goldenGguf("llama-tiny-q4_1.gguf"));
  afterAll(() => weights.close());

  it("are all there, with their shapes and stored types", () => {
    const layer = (n: number) => [
      ...["q", "k", "v", "o"].map((part) => `model.layers.${n}.self_attn.${part}_proj.weight`),
      ...["gate", "up", "down"].map((part) => `model.layers.${n}.mlp.${part}_proj.weight`),
      ...["input", "post_attention"].map((part) => `model.layers.${n}.${part}_layernorm.weight`),
    ];
    const names = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", ...[0, 1, 2].flatMap(layer)];
    expect([...weights.names()].sort()).toEqual(names.sort());
    expect(weights.shape("model.layers.1.mlp.down_proj.weight")).toEqual([64, 128]);
    expect(weights.shape("model.layers.1.self_attn.k_proj.weight")).toEqual([32, 64]);
    expect(weights.dtype("model.layers.1.self_attn.k_proj.weight")).toBe("Q4_1");
    expect(weights.dtype("lm_head.weight")).toBe("Q8_0");
    expect(weights.dtype("model.norm.weight")).toBe("F32");
    expect(weights.has("blk.0.attn_q.weight")).toBe(false);
  });

  it("come as blocks and as numbers in the same order of rows, whichever range is asked for", () => {
    for (const name of weights.names()) {
      const [rows = 0, columns] = weights.shape(name);
      if (columns === undefined) continue;
      const whole = weights.readF32(name);
      const decoder = DECODERS.get(weights.dtype(name));
      for (const [row, count] of [
        [0, rows],
        [1, 2],
        [rows - 1, 1],
        [rows >> 1, 3],
      ] as const) {
        const values = new Float32Array(count * columns);
        const blocks = weights.readBlocks(name, row, count);
        decoder?.decode(blocks, 0, values.length / 32, values, 0);
        expect(maxDifference(values, whole.subarray(row * columns, (row + count) * columns)), name).toBe(0);
      }
      for (const [start, count] of [
        [0, 1],
        [33, 5],
        [63, 130],
        [columns * rows - 7, 7],
        [5, 0],
      ] as const)
        expect(maxDifference(weights.readF32(name, start, count), whole.subarray(start, start + count)), name).toBe(0);
    }
  });

  it("have the rows of q and k where transformers has them, and all others as stored", () => {
    const path = goldenGguf("llama-tiny-llama3.gguf");
    using llama3 = open(path);
    const header = readGgufHeader(path);
    const data = openTensorData(header);
    for (const name of llama3.names()) {
      const gguf = { q: "attn_q", k: "attn_k" }[PROJECTION.exec(name)?.[1] ?? ""];
      const [rows = 0, columns = 1] = llama3.shape(name);
      if (!gguf) continue;
      const tensor = `blk.${name.split(".")[2]}.${gguf}.weight`;
      const info = header.tensors.get(tensor);
      if (!info) throw new Error(`no ${tensor}`);
      for (let row = 0; row < rows; row++) {
        const want = new Float32Array(columns);
        data.decode(tensor, info, storedRow(row, 32) * columns, want);
        expect(maxDifference(llama3.readF32(name, row * columns, columns), want), `${name} ${row}`).toBe(0);
      }
    }
    data.close();
  });

  it("refuse ranges and names that they do not have", () => {
    const name = "model.layers.0.self_attn.q_proj.weight";
    expect(() => weights.readF32(name, 0, 64 * 64 + 1)).toThrow(RangeError);
    expect(() => weights.readF32(name, -1, 1)).toThrow(RangeError);
    expect(() => weights.readBlocks(name, 60, 5)).toThrow(RangeError);
    expect(() => weights.readBlocks("model.norm.weight", 0, 1)).toThrow(RangeError);
    expect(() => weights.readF32("model.layers.3.mlp.up_proj.weight")).toThrow(/"blk.3.ffn_up.weight" is missing/);
    expect(() => weights.readF32("model.nothing")).toThrow(/"model.nothing" is missing/);
    expect(() => weights.expect(name, [64, 32])).toThrow(/"blk.0.attn_q.weight" has shape \[64, 64\]/);
    weights.expect(name, [64, 64]);
    const closed = open(goldenGguf("llama-tiny-q4_1.gguf"));
    closed.close();
    expect(() => closed.readF32(name)).toThrow(RangeError);
  });

  it("are read piece by piece where they are larger than a piece", () => {
    const rows = 60_000;
    const data = Uint8Array.from({ length: rows * 34 }, (_, i) =>
      i % 34 === 0 ? 0 : i % 34 === 1 ? 0x3c : (i * 7) % 251,
    );
    const path = written({ tensors: { "token_embd.weight": { type: "Q8_0", dimensions: [rows, 32], data } } });
    using large = open(path);
    const values = large.readF32("model.embed_tokens.weight");
    const signed = new Int8Array(data.buffer);
    let wrong = 0;
    for (let i = 0; i < values.length; i++) if (values[i] !== signed[Math.floor(i / 32) * 34 + 2 + (i % 32)]) wrong++;
    expect(wrong).toBe(0);
    expect(large.readBlocks("model.embed_tokens.weight", 40_000, 20_000)).toEqual(data.subarray(40_000 * 34));
  });
});

describe("biases", () => {
  it("follow the rows of their projection, and are zeros where only other projections have one", () => {
    const bias = Float32Array.from({ length: 16 }, (_, i) => i + 1);
    const path = written({ tensors: { "blk.0.attn_k.bias": f32([16], bias) } });
    using weights = open(path);
    const name = "model.layers.0.self_attn";
    const want = Array.from(bias, (_, row) => storedRow(row, 8) + 1);
    expect([...weights.readF32(`${name}.k_proj.bias`)]).toEqual(want);
    expect([...weights.readF32(`${name}.k_proj.bias`, 3, 9)]).toEqual(want.slice(3, 12));
    expect([...weights.readF32(`${name}.q_proj.bias`)]).toEqual(new Array(32).fill(0));
    expect(weights.shape(`${name}.v_proj.bias`)).toEqual([16]);
    weights.expect(`${name}.o_proj.bias`, [32]);
    expect(weights.has("model.layers.0.mlp.up_proj.bias")).toBe(false);
    expect(openModelSource(path).config().values).toMatchObject({ attention_bias: true, mlp_bias: false });
  });
});

describe("a model in several files, or in a folder", () => {
  const shards = ["llama-tiny-00001-of-00002.gguf", "llama-tiny-00002-of-00002.gguf"];

  it("has the weights of the same model in one file", () => {
    using split = open(goldenGguf(shards[0] ?? ""));
    using whole = open(goldenGguf("llama-tiny.gguf"));
    expect(split.files.map((file) => basename(file))).toEqual(shards);
    expect([...split.names()].sort()).toEqual([...whole.names()].sort());
    for (const name of whole.names()) expect(maxDifference(split.readF32(name), whole.readF32(name)), name).toBe(0);
    expect(basename(split.file("model.norm.weight"))).toBe(shards[1]);
  });

  it("is found by its folder, if it is the only one there", () => {
    const folder = temporaryFolder();
    expect(() => openModelSource(folder).config()).toThrow(/config.json: there is no such file/);
    for (const shard of shards) copyFileSync(goldenGguf(shard), join(folder, shard));
    expect(openModelSource(folder).path).toBe(join(folder, shards[0] ?? ""));
    copyFileSync(goldenGguf("llama-tiny.gguf"), join(folder, "z.gguf"));
    const error = thrownBy(() => openModelSource(folder));
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(String(error)).toContain(`${shards[0]}, z.gguf`);
  });
});
