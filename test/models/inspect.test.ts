import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { compileModel } from "../../models/compile.js";
import { type Check, type InspectOptions, inspectModel } from "../../models/inspect.js";
import { goldenFolder } from "../golden-tensors.js";
import { temporaryFolder } from "./weights/write-safetensors.js";

const HOSTILE = goldenFolder("architectures/hostile");
const Cases = z.record(z.string(), z.unknown());
const cases = Object.keys(Cases.parse(JSON.parse(readFileSync(join(HOSTILE, "cases.json"), "utf8"))));

const inspect = (path: string, more: Partial<InspectOptions> = {}) =>
  inspectModel({ path, precision: "f32", largestWindow: 4096, sinks: 10, quick: false, ...more });
const refusals = (checks: readonly Check[]) => checks.filter(({ verdict }) => verdict === "refused");

/** Which check refuses each hostile model, and what it names. */
const REFUSED: Readonly<Record<string, readonly [Check["about"], string]>> = {
  wrong_hidden_size: ["weights", "[32, 16]"],
  wrong_layer_count: ["weights", "model.layers.2."],
  wrong_vocab_size: ["weights", "[48, 16]"],
  heads_do_not_divide: ["config", "num_key_value_heads is 3"],
  zero_heads: ["config", "num_attention_heads is 0"],
  absurd_config: ["config", "2147483648"],
  config_not_json: ["config", "not valid JSON"],
  no_config: ["config", "there is no such file"],
  unknown_architecture: ["config", "quantum_llama"],
  unknown_rope: ["config", "spiral"],
  unknown_activation: ["config", "warp9"],
  missing_tensor: ["weights", "model.layers.1.mlp.down_proj.weight"],
  untied_without_head: ["weights", "lm_head.weight"],
  nan_weights: ["values", "model.layers.0.mlp.up_proj.weight, model.layers.1.self_attn.v_proj.weight"],
  truncated_file: ["weights", "shorter than its header promises"],
  truncated_shard: ["weights", "model-00002-of-00002.safetensors"],
  missing_shard: ["weights", "model-00002-of-00002.safetensors"],
  index_lies: ["weights", "lm_head.weight"],
  shard_path_escapes: ["weights", "../ok/model.safetensors"],
  header_length_lies: ["weights", String(2n ** 60n)],
  header_not_json: ["weights", "not valid JSON"],
  offsets_beyond_file: ["weights", "lm_head.weight"],
  offsets_reversed: ["weights", "model.norm.weight"],
  shape_does_not_fill_offsets: ["weights", "model.embed_tokens.weight"],
  unknown_dtype: ["weights", "Q3_HALF"],
  integer_weights: ["weights", "I32"],
  empty_file: ["weights", "model.safetensors"],
  pickle_only: ["weights", "pytorch_model.bin"],
};

describe("a hostile model", () => {
  test("(every case is here)", () => {
    expect(["ok", ...Object.keys(REFUSED)].sort()).toEqual(cases.sort());
  });

  test.each(Object.entries(REFUSED))(
    "%s is refused by one check, which names the reason",
    async (name, [about, what]) => {
      const { checks } = await inspect(join(HOSTILE, name));
      expect(refusals(checks)).toEqual([{ about, verdict: "refused", finding: expect.stringContaining(what) }]);
    },
  );

  test("without reading the weights through is not refused for their values", async () => {
    expect(refusals((await inspect(join(HOSTILE, "nan_weights"), { quick: true })).checks)).toEqual([]);
  });
});

describe("a sound model", () => {
  test("is told with what it takes", async () => {
    const shares: number[] = [];
    const found = await inspect(join(HOSTILE, "ok"), { onProgress: (share) => shares.push(share) });
    expect(refusals(found.checks)).toEqual([]);
    expect(found).toMatchObject({
      architecture: "llama",
      stored: { types: { F32: 21 } },
      needs: { window: 64, cacheBytes: 2 * 2 * 4 * 4 * (2 * (64 + 10) + 10) },
    });
    expect(found.needs?.weightBytes).toBeGreaterThanOrEqual(4 * (found.parameters ?? 0));
    expect(shares.at(-1)).toBe(1);
  });

  test("takes less room in 8 bit", async () => {
    const [f32, q8] = [await inspect("models/default"), await inspect("models/default", { precision: "q8" })];
    expect((q8.needs?.weightBytes ?? 0) / (f32.needs?.weightBytes ?? 0)).toBeLessThan(0.6);
    expect(q8.parameters).toBe(f32.parameters);
    expect(await inspect("models/default", { precision: "q8", eightBits: "int8" })).toMatchObject({
      precision: "int8",
      parameters: f32.parameters,
    });
  });

  test("takes half the room in f16, its embeddings aside, and half the cache", async () => {
    const [f32, f16, bf16] = [
      await inspect("models/default"),
      await inspect("models/default", { precision: "f16" }),
      await inspect("models/default", { precision: "bf16" }),
    ];
    expect((f16.needs?.cacheBytes ?? 0) * 2).toBe(f32.needs?.cacheBytes);
    expect(f16.needs?.weightBytes).toBeLessThan(0.75 * (f32.needs?.weightBytes ?? 0));
    expect(refusals(f16.checks)).toEqual([]);
    expect(bf16.needs).toEqual({ ...f16.needs, kv: "bf16" });
    const [refused] = refusals(bf16.checks);
    expect(refused).toMatchObject({ about: "precision", finding: expect.stringMatching(/on a GPU only.*f32 or f16/) });
    expect(f16.parameters).toBe(f32.parameters);
  });

  test("is refused where its keys and values cannot be kept as asked for", async () => {
    const kv = async (options: Partial<InspectOptions>) => {
      const { checks, needs } = await inspect(join(HOSTILE, "ok"), options);
      return [needs?.kv, ...refusals(checks)];
    };
    expect(await kv({ kv: "q8" })).toEqual([
      "q8",
      { about: "keys and values", verdict: "refused", finding: expect.stringContaining("this model's is 4") },
    ]);
    expect(await kv({ precision: "q8" })).toEqual(["f32"]);
  });

  test("runs by itself in its own 16 bits on a GPU, and in f32 on a CPU", async () => {
    const folder = goldenFolder("architectures/llama_bf16");
    expect((await inspect(folder, { precision: "auto" })).precision).toBe("f32");
    expect((await inspect(folder, { precision: "auto", device: "cuda" })).precision).toBe("bf16");
  });

  test("with weights that f16 has no room for is refused in f16 alone", async () => {
    const folder = temporaryFolder();
    copyFileSync(join(HOSTILE, "ok", "config.json"), join(folder, "config.json"));
    const bytes = readFileSync(join(HOSTILE, "ok", "model.safetensors"));
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
    const name = "model.layers.1.mlp.up_proj.weight";
    bytes.writeFloatLE(1e5, 8 + Number(bytes.readBigUInt64LE()) + Number(header[name].data_offsets[0]) + 12);
    writeFileSync(join(folder, "model.safetensors"), bytes);
    const [found] = refusals((await inspect(folder, { precision: "f16" })).checks);
    expect(found).toMatchObject({
      about: "values",
      finding: expect.stringMatching(/beyond 65,504.* in .*1\.mlp\.up_/),
    });
    for (const precision of ["f32", "bf16"] as const)
      expect(refusals((await inspect(folder, { precision, device: "cuda" })).checks)).toEqual([]);
    const cacheRoot = join(folder, "cache");
    await expect(compileModel({ path: folder, precision: "f16", cacheRoot })).rejects.toThrow(name);
  });

  test("with a broken tokenizer or SAE is refused for that alone", async () => {
    const folder = mkdtempSync(join(tmpdir(), "lambdatap-inspect-"));
    afterAll(() => rmSync(folder, { recursive: true }));
    for (const name of ["config.json", "model.safetensors"])
      copyFileSync(join(HOSTILE, "ok", name), join(folder, name));
    writeFileSync(join(folder, "tokenizer.json"), '{"model": {"type": "WordPiece"}}');
    const { checks } = await inspect(folder, { saes: [folder, join(folder, "nowhere")] });
    expect(refusals(checks).map(({ about, finding }) => [about, finding.startsWith(folder)])).toEqual([
      ["tokenizer", true],
      ["SAE", true],
      ["SAE", true],
    ]);
  });

  test("that is not there is refused, and nothing is made", async () => {
    const nowhere = join(tmpdir(), "lambdatap-nowhere");
    expect(refusals((await inspect(nowhere)).checks)[0]?.finding).toContain(nowhere);
    expect(existsSync(nowhere)).toBe(false);
  });
});
