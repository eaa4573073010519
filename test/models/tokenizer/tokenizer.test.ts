import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { ModelFormatError } from "../../../models/errors.js";
import { openTokenizer, type Tokenizer } from "../../../models/tokenizer/tokenizer.js";
import { byteId, sentencePiece, wordId } from "./sentencepiece.js";

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

function open(path: string, vocabSize: number): Tokenizer {
  const tokenizer = openTokenizer(path, vocabSize);
  if (!tokenizer) throw new Error(`no tokenizer in ${path}`);
  return tokenizer;
}

describe("the embedded model's tokenizer", () => {
  const { encode, decode, tokens } = open("models/default", 4096);

  test.each(greedy.cases)("gives the reference's ids and text: $prompt", ({ prompt, prompt_ids, ids, text }) => {
    expect([0, ...encode(prompt)]).toEqual(prompt_ids);
    expect(decode(ids)).toBe(text);
  });

  // Ids from the Rust library (tokenizers 0.23 through @anush008/tokenizers).
  test.each([
    ["", []],
    ["a ½ b ² Ⅷ ٣", [68, 224, 130, 125, 272, 224, 130, 114, 224, 162, 231, 104, 224, 153, 100]],
    ["\ufeffOnce\u0085 \u0085upon", [175, 123, 127, 3852, 130, 231, 224, 130, 231, 1066, 293]],
    ["\ufeff's", [175, 123, 127, 10, 86]],
    ["\u0085's", [130, 231, 370]],
    ["  two  spaces \n\n tabs\t\tend ", [224, 665, 224, 450, 1483, 224, 202, 202, 260, 604, 86, 201, 201, 927, 224]],
    ["<|endoftext|>Once<|user|> upon<|user", [0, 3852, 1, 600, 31, 95, 460, 273]],
    ["東京😀e\u0301", [166, 255, 113, 164, 122, 109, 176, 257, 250, 226, 72, 140, 227]],
  ])("splits like the Rust library: %j", (text, ids) => {
    expect(encode(text)).toEqual(ids);
    expect(tokens.decode(ids, "keep")).toBe(text);
  });

  test("decodes ids that the vocabulary does not have as nothing", () => {
    const [once = 0] = encode("Once");
    for (const unknown of [4096, 4097, 1e9, -1]) expect(decode([once, unknown, once])).toBe("OnceOnce");
    expect(decode([4096])).toBe("");
  });

  test("splits off digits of every script, like the Rust library", () => {
    const file = z
      .looseObject({ model: z.looseObject({ vocab: z.record(z.string(), z.int()), merges: z.array(z.unknown()) }) })
      .parse(JSON.parse(readFileSync("models/default/tokenizer.json", "utf8")));
    Object.assign(file.model.vocab, { ĠÂ: 4096 });
    file.model.merges.push(["Ġ", "Â"]);
    const changed = open(folder(file), 4097);
    expect(changed.encode(" ½")).toEqual([...changed.encode(" "), ...changed.encode("½")]);
    expect(changed.encode(" §")).toContain(4096);
  });

  test("leaves special tokens out of text, but knows their names", () => {
    expect(decode([0, 3852, 1, 600])).toBe("Once upon");
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

describe("a SentencePiece tokenizer", () => {
  const { encode, decode, tokens } = open(folder(sentencePiece), 270);

  test("drops the space that opens every text, and no other", () => {
    expect(encode("hi the")).toEqual([wordId("▁hi"), wordId("▁the")]);
    expect(decode([wordId("▁hi"), wordId("▁the")])).toBe("hi the");
    expect(decode([1, wordId("▁"), wordId("▁hi")])).toBe(" hi");
    expect(tokens.decode([1, wordId("▁hi")], "keep")).toBe("<s> hi");
    expect(tokens.text(wordId("▁hi"))).toBe(" hi");
  });

  test("spells characters outside of the vocabulary in bytes", () => {
    const ids = [wordId("▁▁"), wordId("▁hi"), wordId("▁"), byteId(0xe6), byteId(0x9d), byteId(0xb1)];
    expect(encode("  hi 東")).toEqual(ids);
    expect(decode(ids)).toBe("  hi 東");
    expect(tokens.text(byteId(0xe6))).toBe("bytes:\\xe6");
  });

  test("without Strip keeps the space (Gemma)", () => {
    const decoder = { type: "Sequence", decoders: sentencePiece.decoder.decoders.slice(0, 3) };
    expect(open(folder({ ...sentencePiece, decoder }), 270).decode([wordId("▁hi")])).toBe(" hi");
  });
});

test("a folder without tokenizer.json has no tokenizer", () => {
  expect(openTokenizer(folder(null), 10)).toBeNull();
});

test.each<[string, unknown, RegExp]>([
  ["no JSON", "{", /JSON/],
  ["no model", { decoder: { type: "ByteLevel" } }, /model/],
  [
    "a vocabulary that maps to text",
    { ...sentencePiece, model: { ...sentencePiece.model, vocab: { a: "b" } } },
    /vocab/,
  ],
  ["a BPE without merges", { ...sentencePiece, model: { vocab: { a: 0 } } }, /BPE needs vocab and merges/],
  [
    "WordPiece",
    { ...sentencePiece, decoder: { type: "WordPiece", prefix: "##" } },
    /decoder \(WordPiece\) is not supported/,
  ],
  ["no decoder", { ...sentencePiece, decoder: null }, /decoder \(none\) is not supported/],
  [
    "a Strip at both ends",
    {
      ...sentencePiece,
      decoder: { type: "Sequence", decoders: [{ type: "Fuse" }, { type: "Strip", content: " ", start: 1, stop: 1 }] },
    },
    /decoder \(Sequence of Fuse, Strip\) is not supported/,
  ],
  ["an unknown model", { ...sentencePiece, model: { ...sentencePiece.model, type: "WordLevel" } }, /model/],
])("names the file and the reason: %s", (_, content, reason) => {
  const path = folder(content);
  const opening = () => openTokenizer(path, 270);
  expect(opening).toThrow(ModelFormatError);
  expect(opening).toThrow(join(path, "tokenizer.json"));
  expect(opening).toThrow(reason);
});

test("refuses ids that the model does not know, ordinary or added", () => {
  expect(() => openTokenizer("models/default", 4095)).toThrow("token id 4095, but the model knows only ids below 4095");
  const added = [...sentencePiece.added_tokens, { id: 270, content: "<extra>", special: true }];
  expect(() => openTokenizer(folder({ ...sentencePiece, added_tokens: added }), 270)).toThrow("token id 270");
});
