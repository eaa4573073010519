import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { describeModel } from "../../../models/architectures/index.js";
import { openModelSource } from "../../../models/model-source.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { maxDifference } from "../../golden-tensors.js";
import { opened } from "../tokenizer/opened.js";

/** SmolLM2-135M-Instruct.Q4_1.gguf; its references lie in the folder reference/ beside it. */
const path = process.env.LAMBDATAP_TEST_MODEL;
if (path === undefined) console.log("skipped: LAMBDATAP_TEST_MODEL is not set");

const reference = (name: string): string => join(dirname(path ?? ""), "reference", name);
const json = <S extends z.ZodType>(schema: S, name: string): z.output<S> =>
  schema.parse(JSON.parse(readFileSync(reference(name), "utf8")));

const Sums = z.object({
  tensors: z.record(
    z.string(),
    z.object({ shape: z.array(z.int()), sum: z.number(), sum_abs: z.number(), sum_sq: z.number() }),
  ),
});
const Ids = z.array(z.int());
const Texts = z.object({
  cases: z.array(z.object({ text: z.string(), ids: Ids, decoded: z.string(), decoded_skip_special: z.string() })),
  decode_only: z.array(z.object({ ids: Ids, decoded: z.string() })),
  chat: z.array(z.object({ name: z.string(), text: z.string(), ids: Ids })),
});

describe.skipIf(path === undefined)("SmolLM2 as a GGUF file", () => {
  const source = path === undefined ? null : openModelSource(path);
  const weights = source?.openCheckpoint();
  afterAll(() => weights?.close());

  it("is the Llama that its config describes", () => {
    const file = z
      .looseObject({ rope_theta: z.number() })
      .parse(JSON.parse(readFileSync(join(dirname(path ?? ""), "config.json"), "utf8")));
    const values = source?.config().values ?? {};
    for (const key of Object.keys(values).filter(
      (name) => name in file && !["rms_norm_eps", "bos_token_id"].includes(name),
    ))
      expect(values[key], key).toEqual(file[key]);
    expect(values.rms_norm_eps).toBe(Math.fround(1e-5));
    expect(source && describeModel(source.config()).shape).toMatchObject({ layers: 30, headDim: 64, bosTokenId: 1 });
    expect(source?.generation()).toEqual({ bosTokenId: 1, frame: { before: [], after: [] }, eosTokenIds: [2] });
    expect(source?.chatTemplate()?.tokens).toMatchObject({ bos_token: "<|im_start|>", eos_token: "<|im_end|>" });
  });

  it("has the sums of every tensor", () => {
    const { tensors } = json(Sums, "weights.json");
    expect([...(weights?.names() ?? [])].sort()).toEqual(Object.keys(tensors).sort());
    for (const [name, { shape, ...sums }] of Object.entries(tensors)) {
      expect(weights?.shape(name), name).toEqual(shape);
      const found = { sum: 0, sum_abs: 0, sum_sq: 0 };
      for (const value of weights?.readF32(name) ?? []) {
        found.sum += value;
        found.sum_abs += Math.abs(value);
        found.sum_sq += value * value;
      }
      for (const key of ["sum", "sum_abs", "sum_sq"] as const)
        expect(Math.abs(found[key] - sums[key]) / sums.sum_abs, `${name} ${key}`).toBeLessThan(1e-9);
    }
  });

  it("has the stored rows, in transformers' order", () => {
    using file = openSafetensors(reference("weights.safetensors"));
    for (const stored of file.tensors.keys()) {
      const [name = "", rows] = stored.split("#");
      const columns = weights?.shape(name)[1] ?? 1;
      const values = file.readF32(stored);
      const found =
        rows === undefined
          ? [...(weights?.readF32(name) ?? [])]
          : rows.split(",").flatMap((row) => [...(weights?.readF32(name, Number(row) * columns, columns) ?? [])]);
      expect(maxDifference(found, values), stored).toBe(0);
    }
  });

  it("encodes and decodes every reference text", async () => {
    const { cases, decode_only, chat } = json(Texts, "tokenizer.json");
    const tokenizer = await opened(path ?? "", 49_152);
    for (const { text, ids, decoded, decoded_skip_special } of cases) {
      expect([...(await tokenizer.encode(text))], text).toEqual(ids);
      expect(tokenizer.tokens.decode(ids, "keep")).toBe(decoded);
      expect(tokenizer.tokens.decode(ids)).toBe(decoded_skip_special);
    }
    for (const { ids, decoded } of decode_only) expect(tokenizer.tokens.decode(ids, "keep"), `${ids}`).toBe(decoded);
    for (const { name, text, ids } of chat) expect([...(await tokenizer.encode(text))], name).toEqual(ids);
  });
});
