import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../models/compile.js";
import { Runner } from "../../runtime/graphs/runner.js";
import type { Ended } from "../captured-output.js";
import { expectedTensors, goldenFolder, goldenSequences, maxDifference } from "../golden-tensors.js";
import { lambdatapInProcess } from "./lambdatap-in-process.js";
import { lambdatap, whileServing } from "./lambdatap-process.js";

const HOSTILE = goldenFolder("architectures/hostile");
const HOSTILE_SAFETENSORS = join(goldenFolder("sae"), "hostile");
const OK = join(HOSTILE, "ok");

const folder = mkdtempSync(join(tmpdir(), "lambdatap-hostile-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the sentence must name, beside the folder: the file, then what cases.json asks for. */
const CASES: Readonly<Record<string, readonly [file: string, ...names: (string | RegExp)[]]>> = {
  wrong_hidden_size: ["model.safetensors", '"model.embed_tokens.weight"', "[32, 16]", "[32, 24]"],
  wrong_layer_count: ["model.safetensors", /tensor "model\.layers\.2\.\S+" is missing/],
  wrong_vocab_size: ["model.safetensors", '"model.embed_tokens.weight"', "[32, 16]", "[48, 16]"],
  heads_do_not_divide: ["config.json", "num_key_value_heads is 3"],
  zero_heads: ["config.json", "num_attention_heads is 0"],
  absurd_config: ["config.json", "hidden_size is 2147483648"],
  config_not_json: ["config.json", "not valid JSON"],
  no_config: ["config.json", "there is no such file"],
  unknown_architecture: ["config.json", '"quantum_llama"', /known here are: .*\bllama\b/],
  unknown_rope: ["config.json", 'rope_type is "spiral"'],
  unknown_activation: ["config.json", 'hidden_act is "warp9"'],
  missing_tensor: ["model.safetensors", '"model.layers.1.mlp.down_proj.weight" is missing'],
  untied_without_head: ["model.safetensors", '"lm_head.weight" is missing'],
  nan_weights: [
    "model.safetensors",
    "NaN or infinite",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.1.self_attn.v_proj.weight",
  ],
  truncated_file: ["model.safetensors", "shorter than its header promises"],
  truncated_shard: ["model-00002-of-00002.safetensors", "shorter than its header promises"],
  missing_shard: ["model-00002-of-00002.safetensors", "missing"],
  index_lies: ["model.safetensors.index.json", '"lm_head.weight"', "model-00001-of-00002.safetensors"],
  shard_path_escapes: ["model.safetensors.index.json", "../ok/model.safetensors", "plain file name in the same folder"],
  header_length_lies: ["model.safetensors", "header", String(2n ** 60n)],
  header_not_json: ["model.safetensors", "not valid JSON"],
  offsets_beyond_file: ["model.safetensors", '"lm_head.weight"'],
  offsets_reversed: ["model.safetensors", '"model.norm.weight"', "ends before it begins"],
  shape_does_not_fill_offsets: ["model.safetensors", '"model.embed_tokens.weight"', "1024", "[32,16]"],
  unknown_dtype: ["model.safetensors", '"model.norm.weight"', "Q3_HALF"],
  integer_weights: ["model.safetensors", '"model.norm.weight"', "I32"],
  empty_file: ["model.safetensors", "has 0"],
  pickle_only: ["pytorch_model.bin", "not opened", "model.safetensors"],
};

/** Why each file that is no safetensors file is refused; the last two are sound, but hold no model. */
const SAFETENSORS: Readonly<Record<string, string | RegExp>> = {
  truncated: /tensor ".+" ends at byte .*shorter than its header promises/,
  "truncated-in-header": "shorter than its header promises",
  empty: "has 0",
  "larger-than-file": /tensor ".+" ends at byte .*shorter than its header promises/,
  "overlapping-offsets": /tensor ".+" overlaps/,
  "hole-between-tensors": /bytes before tensor ".+" belong to no tensor/,
  "bytes-after-last-tensor": /the last \d+ bytes of the file belong to no tensor/,
  "offsets-reversed": /tensor ".+" ends before it begins/,
  "offsets-negative": /tensor ".+" has a malformed header entry: data_offsets/,
  "shape-does-not-match-offsets": /tensor ".+" has \d+ bytes, but/,
  "shape-product-overflow": /tensor ".+" has the impossible shape/,
  "unknown-dtype": /tensor ".+" has the unknown dtype/,
  "header-length-2-60": String(2n ** 60n),
  "header-length-2-64-minus-1": String(2n ** 64n - 1n),
  "header-not-json": "not valid JSON",
  "duplicate-name": /tensor ".+" occurs twice/,
  "valid-control": 'tensor "model.embed_tokens.weight" is missing',
  "proto-name": 'tensor "model.embed_tokens.weight" is missing',
};

/** Starts a server that is to be refused, with the command line in this process. */
const refuse = (...args: string[]): Promise<Ended> =>
  lambdatapInProcess(["serve", "--port", "0", ...args], { LAMBDATAP_CACHE: cacheRoot });

/** The one sentence of a start that was refused. */
function sentenceOf({ code, out, err }: Ended, exitCode = 1): string {
  const lines = err.split("\n").filter((line) => line !== "" && !/^compiling \d+ %$/.test(line));
  expect({ code, out, lines: lines.length, stack: /^\s+at /m.test(err) }).toEqual({
    code: exitCode,
    out: "",
    lines: exitCode,
    stack: false,
  });
  expect(lines[0]).toMatch(/^lambdatap serve: /);
  return lines[0] ?? "";
}

const names = (sentence: string, what: string | RegExp): void =>
  typeof what === "string" ? expect(sentence).toContain(what) : expect(sentence).toMatch(what);

describe("a model that cannot be served ends the start with one sentence", () => {
  it("(every case of the golden is here)", () => {
    const cases: unknown = JSON.parse(readFileSync(join(HOSTILE, "cases.json"), "utf8"));
    expect(["ok", ...Object.keys(CASES)].sort()).toEqual(Object.keys(cases ?? {}).sort());
  });

  it.each(Object.entries(CASES))("%s", async (name, [file, ...what]) => {
    const sentence = sentenceOf(await refuse("--model", join(HOSTILE, name)));
    names(sentence, `${join(name, file)}: `);
    for (const each of what) names(sentence, each);
  });
});

describe("a file that is no safetensors file, as the weights of a model, ends the start with one sentence", () => {
  it("(every file of the golden is here)", () => {
    const files = readdirSync(HOSTILE_SAFETENSORS).filter((file) => file.endsWith(".safetensors"));
    expect(Object.keys(SAFETENSORS).sort()).toEqual(files.map((file) => basename(file, ".safetensors")).sort());
  });

  it.each(Object.entries(SAFETENSORS))("%s", async (name, what) => {
    const model = join(folder, name);
    mkdirSync(model);
    copyFileSync(join(OK, "config.json"), join(model, "config.json"));
    copyFileSync(join(HOSTILE_SAFETENSORS, `${name}.safetensors`), join(model, "model.safetensors"));
    const sentence = sentenceOf(await refuse("--model", model));
    names(sentence, `${join(name, "model.safetensors")}: `);
    names(sentence, what);
    expect(sentence).not.toContain("unexpected error");
  });
});

describe("the process of a refused start", () => {
  it.each(["no_config", "nan_weights"])("ends by itself with the same sentence: %s", async (name) => {
    const args = ["serve", "--port", "0", "--model", join(HOSTILE, name)];
    const ended = await lambdatap(args, cacheRoot);
    expect(sentenceOf(ended)).toBe(sentenceOf(await refuse("--model", join(HOSTILE, name))));
  });
});

describe("the same model, sound,", () => {
  it("serves", async () => {
    const code = await whileServing(["--model", OK], cacheRoot, async (url) => {
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ prompt: [1, 2, 3], max_tokens: 2, ignore_eos: true }),
      });
      expect(await response.json()).toMatchObject({ usage: { completion_tokens: 2 } });
    });
    expect(code).toBe(0);
  });

  it("computes the logits of transformers", async () => {
    const [ids = []] = goldenSequences("architectures/hostile/ok");
    using runner = new Runner(await compileModel({ path: OK, precision: "f32", cacheRoot }), {
      window: 64,
      threads: 1,
    });
    const cache = runner.openCache({ window: 64, sinks: 4 });
    const logits = runner.prefill(cache, cache.allocate(), ids, [...ids.keys()]);
    runner.closeCache(cache);
    expect(
      maxDifference(logits, expectedTensors("architectures/hostile/ok").get("seq0.logits")?.values ?? []),
    ).toBeLessThan(2e-4);
  });
});

describe("a start that cannot succeed says why in one sentence", () => {
  it("where the port is in use", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const address = other.address();
    const port = String(typeof address === "object" ? address?.port : "");
    const ended = await refuse("--model", OK, "--port", port);
    other.close();
    expect(sentenceOf(ended)).toMatch(new RegExp(`port ${port} on 127\\.0\\.0\\.1 is in use`));
  });

  it("where the cache folder cannot be made", async () => {
    const file = join(folder, "a-file");
    writeFileSync(file, "");
    const sentence = sentenceOf(await refuse("--model", OK, "--cache-dir", join(file, "cache")));
    names(sentence, join(file, "cache"));
    names(sentence, "a file is in its place");
  });

  it("where there is no such model folder", async () => {
    names(sentenceOf(await refuse("--model", join(folder, "nowhere"))), join(folder, "nowhere", "config.json"));
  });

  it.each([
    ["--window", "0"],
    ["--sinks", "-1"],
    ["--precision", "q9"],
    ["--threads", "0"],
    ["--port", "65536"],
    ["--widnow", "64"],
  ])("where a flag makes no sense: %s %s", async (flag, value) => {
    names(sentenceOf(await refuse("--model", OK, flag, value), 2), flag);
  });
});
