import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { ModelFormatError } from "../../../models/errors.js";
import { openTokenizer } from "../../../models/tokenizer/tokenizer.js";
import { UnencodableText } from "../../../models/tokenizer/unencodable-text.js";
import { openEmbedded, opened } from "./opened.js";
import { addedToken, byteId, sentencePiece, wordId } from "./sentencepiece.js";

const Greedy = z.object({
  cases: z.array(
    z.object({ prompt: z.string(), prompt_ids: z.array(z.int()), ids: z.array(z.int()), text: z.string() }),
  ),
});
const greedy = Greedy.parse(JSON.parse(readFileSync("models/default/reference/greedy.json", "utf8")));

const folders = mkdtempSync(join(tmpdir(), "lambdatap-tokenizer-"));
afterAll(() => rmSync(folders, { recursive: true }));

let made = 0;
/** A folder with this tokenizer.json; null: without one. */
function folder(content: unknown): string {
  const path = join(folders, String(made++));
  mkdirSync(path);
  if (content !== null) {
    writeFileSync(join(path, "tokenizer.json"), typeof content === "string" ? content : JSON.stringify(content));
  }
  return path;
}

describe("the embedded model's tokenizer", async () => {
  const { encode, tokens } = await openEmbedded();

  test.each(greedy.cases)("gives the reference's ids and text: $prompt", async ({ prompt, prompt_ids, ids, text }) => {
    expect([0, ...(await encode(prompt))]).toEqual(prompt_ids);
    expect(tokens.decode(ids)).toBe(text);
  });

  // Ids from the Rust library (tokenizers 0.23).
  test.each([
    ["", []],
    ["a ½ b ² Ⅷ ٣", [68, 224, 130, 125, 272, 224, 130, 114, 224, 162, 231, 104, 224, 153, 100]],
    ["\ufeffOnce\u0085 \u0085upon", [175, 123, 127, 3852, 130, 231, 224, 130, 231, 1066, 293]],
    ["\ufeff's", [175, 123, 127, 10, 86]],
    ["\u0085's", [130, 231, 370]],
    ["  two  spaces \n\n tabs\t\tend ", [224, 665, 224, 450, 1483, 224, 202, 202, 260, 604, 86, 201, 201, 927, 224]],
    ["<|endoftext|>Once<|user|> upon<|user", [0, 3852, 1, 600, 31, 95, 460, 273]],
    ["東京😀e\u0301", [166, 255, 113, 164, 122, 109, 176, 257, 250, 226, 72, 140, 227]],
  ])("splits like the Rust library: %j", async (text, ids) => {
    expect([...(await encode(text))]).toEqual(ids);
    expect(tokens.decode(ids, "keep")).toBe(text);
  });

  test("decodes ids that the vocabulary does not have as nothing", async () => {
    const [once = 0] = await encode("Once");
    for (const unknown of [4096, 4097, 1e9, -1]) expect(tokens.decode([once, unknown, once])).toBe("OnceOnce");
    expect(tokens.decode([4096])).toBe("");
  });

  test("splits off digits of every script, like the Rust library", async () => {
    const file = z
      .looseObject({ model: z.looseObject({ vocab: z.record(z.string(), z.int()), merges: z.array(z.unknown()) }) })
      .parse(JSON.parse(readFileSync("models/default/tokenizer.json", "utf8")));
    Object.assign(file.model.vocab, { ĠÂ: 4096 });
    file.model.merges.push(["Ġ", "Â"]);
    const changed = await opened(folder(file), 4097);
    expect([...(await changed.encode(" ½"))]).toEqual([...(await changed.encode(" ")), ...(await changed.encode("½"))]);
    expect([...(await changed.encode(" §"))]).toContain(4096);
  });

  test("leaves special tokens out of text, but knows their names", () => {
    expect(tokens.decode([0, 3852, 1, 600])).toBe("Once upon");
    expect(tokens.isSpecial(0)).toBe(true);
    expect(tokens.isSpecial(3852)).toBe(false);
    expect(tokens.text(0)).toBe("<|endoftext|>");
  });

  test("has every single byte", () => {
    const single = new Set<number>();
    for (let id = 0; id < 4096; id++) if (tokens.bytes(id).length === 1) single.add(tokens.bytes(id)[0]!);
    expect(single.size).toBe(256);
  });

  test("names tokens that are no whole character by their bytes, and ids without a token by their number", () => {
    expect(tokens.text(166)).toBe("bytes:\\xe6");
    expect(tokens.text(600)).toBe(" upon");
    expect(tokens.text(4096)).toBe("token_id:4096");
  });
});

describe("a SentencePiece tokenizer", async () => {
  const { encode, tokens } = await opened(folder(sentencePiece), 270);

  test("drops the space that opens every text, and no other", async () => {
    expect(await encode("hi the")).toEqual(Int32Array.of(wordId("▁hi"), wordId("▁the")));
    expect(tokens.decode([wordId("▁hi"), wordId("▁the")])).toBe("hi the");
    expect(tokens.decode([1, wordId("▁"), wordId("▁hi")])).toBe(" hi");
    expect(tokens.decode([1, wordId("▁hi")], "keep")).toBe("<s> hi");
    expect(tokens.text(wordId("▁hi"))).toBe(" hi");
  });

  test("spells characters outside of the vocabulary in bytes", async () => {
    const ids = [wordId("▁▁"), wordId("▁hi"), wordId("▁"), byteId(0xe6), byteId(0x9d), byteId(0xb1)];
    expect([...(await encode("  hi 東"))]).toEqual(ids);
    expect(tokens.decode(ids)).toBe("  hi 東");
    expect(tokens.text(byteId(0xe6))).toBe("bytes:\\xe6");
  });

  test("without Strip keeps the space (Gemma)", async () => {
    const decoder = { type: "Sequence", decoders: sentencePiece.decoder.decoders.slice(0, 3) };
    expect((await opened(folder({ ...sentencePiece, decoder }), 270)).tokens.decode([wordId("▁hi")])).toBe(" hi");
  });
});

test("a folder without tokenizer.json has no tokenizer", async () => {
  expect(await openTokenizer(folder(null), 10)).toBeNull();
});

const added = (more: object) => [...sentencePiece.added_tokens, { ...addedToken, ...more }];
const decoders = (...steps: object[]) => ({ type: "Sequence", decoders: steps });

test.each<[string, unknown, RegExp]>([
  ["no JSON", "{", /JSON/],
  ["a list", [], /JSON object/],
  ["no model", { decoder: { type: "ByteLevel" } }, /model/],
  [
    "a vocabulary that maps to text",
    { ...sentencePiece, model: { ...sentencePiece.model, vocab: { a: "b" } } },
    /vocab/,
  ],
  ["a BPE without merges", { ...sentencePiece, model: { type: "BPE", vocab: { a: 0 } } }, /merges/],
  ["an unknown model", { ...sentencePiece, model: { ...sentencePiece.model, type: "Morfessor" } }, /model\.type/],
  ["a merge of nothing", { ...sentencePiece, model: { ...sentencePiece.model, merges: ["h q"] } }, /merges|h q|q/i],
  ["ids at random", { ...sentencePiece, model: { ...sentencePiece.model, dropout: 0.1 } }, /model\.dropout/],
  ["an unknown normalizer", { ...sentencePiece, normalizer: { type: "Rot13" } }, /Normalizer/],
  ["an unknown pre-tokenizer", { ...sentencePiece, pre_tokenizer: { type: "Words" } }, /PreTokenizer/],
  [
    "a pattern that is none",
    { ...sentencePiece, normalizer: { type: "Replace", pattern: { Regex: "(" }, content: "" } },
    /regex|Normalizer|parenthesis/i,
  ],
  ["an unknown truncation", { ...sentencePiece, truncation: { max_length: "x" } }, /string "x"/],
  [
    "CTC",
    { ...sentencePiece, decoder: { type: "CTC", pad_token: "<pad>", word_delimiter_token: "|", cleanup: true } },
    /decoder \(CTC\) is not supported/,
  ],
  [
    "a Strip at both ends",
    { ...sentencePiece, decoder: decoders({ type: "Fuse" }, { type: "Strip", content: " ", start: 1, stop: 1 }) },
    /decoder \(Sequence of Fuse, Strip\) is not supported: Strip .*stop/,
  ],
  [
    "a Replace of joined tokens",
    {
      ...sentencePiece,
      decoder: decoders({ type: "Fuse" }, { type: "Replace", pattern: { String: "a" }, content: "b" }),
    },
    /Replace after the tokens were joined/,
  ],
  [
    "a Replace of nothing",
    { ...sentencePiece, decoder: { type: "Replace", pattern: { String: "" }, content: "b" } },
    /Replace is not known, or not with these options: pattern/,
  ],
  [
    "an added token under another's id",
    { ...sentencePiece, added_tokens: added({ id: 290, content: "<x>" }) },
    /"<x>" has the id 290, but by its place it is token 270/,
  ],
  [
    "two tokens with one id",
    { ...sentencePiece, model: { ...sentencePiece.model, vocab: { ...sentencePiece.model.vocab, b: 5 } } },
    /several tokens with the id 5/,
  ],
])("names the file and the reason: %s", async (_, content, reason) => {
  const path = folder(content);
  const error: unknown = await openTokenizer(path, 300).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ModelFormatError);
  expect(error).toMatchObject({ file: join(path, "tokenizer.json"), message: expect.stringMatching(reason) });
});

test("refuses a vocabulary with ids that the model does not know", async () => {
  await expect(openTokenizer("models/default", 4095)).rejects.toThrow(
    "token id 4095, but the model knows only ids below 4095",
  );
});

test("an added token that the model does not know is refused in the texts that hold it, by name", async () => {
  const path = folder({ ...sentencePiece, added_tokens: added({ id: 270, content: "<image>", special: true }) });
  const { encode, tokens } = await opened(path, 270);
  expect(await encode("hi")).toEqual(Int32Array.of(wordId("▁hi")));
  await expect(encode("hi <image>")).rejects.toThrow(UnencodableText);
  await expect(encode("hi <image>")).rejects.toThrow(
    'holds "<image>", token 270, which the model does not know (0 to 269)',
  );
  expect(tokens.text(270)).toBe("token_id:270");
});

test("half of a surrogate pair is refused, not replaced", async () => {
  const { encode } = await openEmbedded();
  for (const text of ["a \ud83d b", "\ude00", "😀\ud83d"])
    await expect(encode(text)).rejects.toThrow("holds half of a surrogate pair");
  expect(await encode("😀")).not.toHaveLength(0);
});

test("neither cuts nor fills texts, whatever the file asks for", async () => {
  const file = z.looseObject({}).parse(JSON.parse(readFileSync("models/default/tokenizer.json", "utf8")));
  const truncation = { max_length: 3, strategy: "LongestFirst", stride: 0, direction: "Right" };
  const padding = {
    strategy: { Fixed: 20 },
    direction: "Left",
    pad_to_multiple_of: 8,
    pad_id: 0,
    pad_type_id: 0,
    pad_token: "<|endoftext|>",
  };
  const { encode } = await opened(folder({ ...file, truncation, padding }), 4096);
  const text = "Once upon a time there was a mole";
  expect(await encode(text)).toEqual(await (await openEmbedded()).encode(text));
});

test("a text for which a vocabulary has no token is refused with the library's words", async () => {
  const model = { type: "WordLevel", vocab: { a: 0 }, unk_token: "[UNK]" };
  const { encode } = await opened(folder({ model, pre_tokenizer: { type: "Whitespace" } }), 1);
  expect(await encode("a a")).toEqual(Int32Array.of(0, 0));
  await expect(encode("a b")).rejects.toThrow(UnencodableText);
  await expect(encode("a b")).rejects.toThrow(/cannot be encoded: .*\[?UNK/);
});
