import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { openCheckpoint } from "../../../models/weights/checkpoint.js";
import { temporaryFolder, thrownBy, writeSafetensors } from "./write-safetensors.js";

const GOLDEN = "test/golden/architectures";
const hostile = (name: string) => join(GOLDEN, "hostile", name);

function refusal(folder: string): ModelFormatError {
  const error = thrownBy(() => openCheckpoint(folder).close());
  if (!(error instanceof ModelFormatError)) throw new Error(`not refused: ${error}`);
  return error;
}

describe("weights that cannot be used", () => {
  it.each([
    ["truncated_file", "model.safetensors", /the file is shorter than its header promises/],
    ["truncated_shard", "model-00002-of-00002.safetensors", /the file is shorter than its header promises/],
    ["missing_shard", "model-00002-of-00002.safetensors", /this shard.*is missing/],
    [
      "index_lies",
      "model.safetensors.index.json",
      /tensor "lm_head.weight" is in model-0000\d-of-00002.safetensors, but/,
    ],
    [
      "shard_path_escapes",
      "model.safetensors.index.json",
      /"..\/ok\/model.safetensors", but a shard is a plain file name/,
    ],
    ["header_length_lies", "model.safetensors", /said to have 1152921504606846976 bytes/],
    ["header_not_json", "model.safetensors", /header is not valid JSON/],
    ["offsets_beyond_file", "model.safetensors", /"lm_head.weight" ends at byte/],
    ["offsets_reversed", "model.safetensors", /"model.norm.weight" ends before it begins/],
    [
      "shape_does_not_fill_offsets",
      "model.safetensors",
      /"model.embed_tokens.weight" has 1024 bytes, but F32 of shape \[32,16\]/,
    ],
    ["unknown_dtype", "model.safetensors", /"model.norm.weight" has the unknown dtype Q3_HALF/],
    ["empty_file", "model.safetensors", /has 0/],
    ["pickle_only", "pytorch_model.bin", /convert them to model.safetensors/],
  ])("are refused: %s", (name, file, reason) => {
    const error = refusal(hostile(name));
    expect(error.file).toBe(join(hostile(name), file));
    expect(error.reason).toMatch(reason);
  });

  it("are refused with tensor and dtype where a weight holds integers", () => {
    using weights = openCheckpoint(hostile("integer_weights"));
    expect(() => weights.readF32("model.norm.weight")).toThrow(/"model.norm.weight" has dtype I32/);
    expect(() => weights.expect("model.norm.weight", [16])).toThrow(/"model.norm.weight" has dtype I32/);
  });

  it.each([
    "",
    "..",
    ".",
    "a/b.safetensors",
    "a\\b.safetensors",
    "C:b.safetensors",
    "/etc/passwd",
    "a\0b",
    7,
    null,
    ["a"],
  ])("are refused where the index calls a shard %j", (shard) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: { w: shard } }));
    expect(refusal(folder).reason).toMatch(/tensor "w" into .* a shard is a plain file name/);
  });

  it("are refused where there is no folder, nothing in it, or an index without a map", () => {
    const folder = temporaryFolder();
    expect(refusal(join(folder, "none")).reason).toBe("there is no such folder");
    expect(refusal(folder).message).toMatch(/model.safetensors: there is no such file/);
    writeFileSync(join(folder, "model.safetensors.index.json"), '{"weight_map": []}');
    expect(refusal(folder).reason).toMatch(/weight_map/);
    writeFileSync(join(folder, "model.safetensors.index.json"), '{"weight_map": {');
    expect(refusal(folder).reason).toMatch(/not valid JSON/);
  });
});

describe("a checkpoint", () => {
  it("is the same in shards as in one file", () => {
    using whole = openCheckpoint(join(GOLDEN, "llama"));
    using shards = openCheckpoint(join(GOLDEN, "llama_sharded"));
    expect(shards.files).toHaveLength(4);
    expect([...shards.names()].sort()).toEqual([...whole.names()].sort());
    expect(new Set([...shards.names()].map((name) => shards.file(name))).size).toBe(3);
    for (const name of whole.names()) {
      expect(shards.shape(name)).toEqual(whole.shape(name));
      expect(shards.readF32(name)).toEqual(whole.readF32(name));
      expect(shards.readF32(name, 5, 7)).toEqual(whole.readF32(name).slice(5, 12));
    }
  });

  it("of bfloat16 is the other one rounded", () => {
    using exact = openCheckpoint(join(GOLDEN, "llama3"));
    using rounded = openCheckpoint(join(GOLDEN, "llama_bf16"));
    for (const name of exact.names()) {
      const [a, b] = [exact.readF32(name), rounded.readF32(name)];
      for (const [i, value] of a.entries())
        if (Math.abs(value - b[i]!) > Math.abs(value) * 2 ** -8) expect.fail(`${name}[${i}]: ${value} and ${b[i]}`);
    }
  });

  it("says which tensor is missing or has another shape than expected, and both shapes", () => {
    using weights = openCheckpoint(hostile("missing_tensor"));
    const missing = "model.layers.1.mlp.down_proj.weight";
    expect(weights.has(missing)).toBe(false);
    expect(() => weights.expect(missing, [16, 32])).toThrow(`tensor "${missing}" is missing`);
    expect(() => weights.readF32(missing)).toThrow(`tensor "${missing}" is missing`);
    expect(() => weights.shape("__proto__")).toThrow('tensor "__proto__" is missing');
    const embedding = "model.embed_tokens.weight";
    weights.expect(embedding, [32, 16]);
    const error = thrownBy(() => weights.expect(embedding, [48, 16]));
    expect(error).toMatchObject({ file: join(hostile("missing_tensor"), "model.safetensors") });
    expect(error).toMatchObject({
      reason: expect.stringMatching(/"model.embed_tokens.weight" has shape \[32, 16\].*\[48, 16\]/),
    });
    expect(() => weights.expect(embedding, [32])).toThrow(ModelFormatError);
    expect(() => weights.expect(embedding, [32, 16, 1])).toThrow(ModelFormatError);
  });

  it("does not mind shards that the index does not name, nor tensors it leaves out", () => {
    const folder = temporaryFolder();
    const from = join(GOLDEN, "llama_sharded");
    const index: { weight_map: Record<string, string> } = JSON.parse(
      readFileSync(join(from, "model.safetensors.index.json"), "utf8"),
    );
    const [[name, shard] = ["", ""]] = Object.entries(index.weight_map);
    copyFileSync(join(from, shard), join(folder, shard));
    writeSafetensors(join(folder, "other.safetensors"), "broken", new Uint8Array(3));
    writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: { [name]: shard } }));
    using weights = openCheckpoint(folder);
    expect([...weights.names()]).toEqual([name]);
    expect(weights.readF32(name).length).toBeGreaterThan(0);
  });
});
