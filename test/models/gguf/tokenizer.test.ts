import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { ModelFormatError } from "../../../models/errors.js";
import { openModelSource } from "../../../models/model-source.js";
import type { Tokenizer } from "../../../models/tokenizer/tokenizer.js";
import { inPieces, opened } from "../tokenizer/opened.js";
import { temporaryFolder } from "../weights/write-safetensors.js";
import { goldenGguf } from "./golden-gguf.js";
import { writeGguf } from "./write-gguf.js";

const Ids = z.array(z.int());
const Encoded = z.object({ text: z.string(), ids: Ids, decoded: z.string(), decoded_skip_special: z.string() });
const Golden = z.object({
  tokenizers: z.record(
    z.string(),
    z.object({
      add_bos: z.boolean(),
      bos: z.int(),
      encode: z.array(Encoded),
      decode_cut: z.array(z.object({ ids: Ids, decoded: z.string() })).default([]),
    }),
  ),
});

const golden = (path: string) => Object.entries(Golden.parse(JSON.parse(readFileSync(path, "utf8"))).tokenizers);
const SENTENCEPIECE = join("test", "golden", "sentencepiece");

const open = (path: string) => opened(path, 1000);

describe.each([
  ...golden(goldenGguf("tokenizer.json")).map(([file, cases]) => [file, goldenGguf(file), cases] as const),
  ...golden(join(SENTENCEPIECE, "sentencepiece.json")).map(
    ([file, cases]) => [file, join(SENTENCEPIECE, file), cases] as const,
  ),
])("the vocabulary of %s", (_, path, { add_bos, bos, encode, decode_cut }) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await open(path);
  });

  it.each(encode)(
    "encodes and decodes like the Rust library: $text",
    async ({ text, ids, decoded, decoded_skip_special }) => {
      expect([...(await tokenizer.encode(text))]).toEqual(ids);
      expect([...(await inPieces(tokenizer, text, 5))]).toEqual(ids);
      expect(tokenizer.tokens.decode(ids, "keep")).toBe(decoded);
      expect(tokenizer.tokens.decode(ids)).toBe(decoded_skip_special);
    },
  );

  if (decode_cut.length > 0)
    it.each(decode_cut)("shows U+FFFD where bytes of a character are missing: $ids", ({ ids, decoded }) => {
      expect(tokenizer.tokens.decode(ids, "keep")).toBe(decoded);
    });

  it("says whether a prompt begins with a token of its own", () => {
    expect(openModelSource(path).generation()).toMatchObject({
      frame: { before: add_bos ? [bos] : [], after: [] },
      ...(add_bos ? { bosTokenId: bos } : {}),
    });
  });
});

describe("the conversations of llama-tiny, once rendered", () => {
  const Chat = z.object({
    chat: z.object({
      file: z.string(),
      cases: z.array(z.object({ name: z.string(), text: z.string().optional(), ids: Ids.optional() })),
    }),
  });
  const { chat } = Chat.parse(JSON.parse(readFileSync(goldenGguf("tokenizer.json"), "utf8")));
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await open(goldenGguf(chat.file));
  });
  it.each(chat.cases.filter(({ text }) => text !== undefined))("$name", async ({ text = "", ids }) => {
    expect([...(await tokenizer.encode(text))]).toEqual(ids);
  });
});

describe("llama.cpp's ways to split", () => {
  const alphabet = [..."aAbB.,!+12345 "].map((character) => (character === " " ? "Ġ" : character));
  const tokens = [...alphabet, ".,", "12", "123", "1234", "a.", "Ġa", "Ġ1", "abab"];
  const merges = [". ,", "1 2", "12 3", "123 4", "a .", "Ġ a", "Ġ 1"];
  const path = (pre: string) =>
    writeGguf(join(temporaryFolder(), "a.gguf"), {
      "general.architecture": "llama",
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": pre,
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.merges": merges,
    });
  const split = async (pre: string, text: string) =>
    Array.from(await (await open(path(pre))).encode(text), (id) => tokens[id]);

  it("differ in punctuation, numbers and whole words", async () => {
    expect(await split("default", "a., a 12345")).toEqual(["a", ".,", "Ġa", "Ġ", "123", "4", "5"]);
    expect(await split("gpt-2", "a., a 12345")).toEqual(["a", ".,", "Ġa", "Ġ", "1234", "5"]);
    expect(await split("qwen2", "abab")).toEqual(["a", "b", "a", "b"]);
    expect(await split("llama-bpe", "abab")).toEqual(["abab"]); // no merges for what is a token as a whole
    expect(await split("smollm", "12")).toEqual(["1", "2"]);
  });
});

describe("SentencePiece vocabularies that cannot be used", () => {
  const tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab"];
  const vocabulary = (changed: Parameters<typeof writeGguf>[1]) =>
    writeGguf(join(temporaryFolder(), "a.gguf"), {
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.scores": Float32Array.of(0, 0, 0, -2, -3, -1),
      "tokenizer.ggml.add_space_prefix": false,
      ...changed,
    });

  it("are refused with the key", async () => {
    expect(await (await open(vocabulary({}))).encode("abba")).toEqual(Int32Array.of(5, 4, 3));
    const refusals: [Parameters<typeof writeGguf>[1], string][] = [
      [
        { "tokenizer.ggml.scores": Float32Array.of(0, 0) },
        "tokenizer.ggml.scores is an array of 2 float32 values, but there are 6",
      ],
      [{ "tokenizer.ggml.scores": Float32Array.of(0, 0, 0, Number.NaN, 0, 0) }, "token 3 has the score NaN"],
      [{ "tokenizer.ggml.scores": "none" }, "tokenizer.ggml.scores"],
      [{ "tokenizer.ggml.tokens": [...tokens.slice(0, 5), "x".repeat(257)] }, "token 5 has more than 256 characters"],
      [{ "tokenizer.ggml.unknown_token_id": { uint32: 6 } }, "tokenizer.ggml.unknown_token_id is 6"],
    ];
    for (const [changed, reason] of refusals) {
      const error: unknown = await open(vocabulary(changed)).catch((thrown: unknown) => thrown);
      expect(error, reason).toBeInstanceOf(ModelFormatError);
      expect(String(error)).toContain(reason);
    }
  });
});
