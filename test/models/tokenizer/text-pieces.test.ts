import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import type { Tokenizer } from "../../../models/tokenizer/tokenizer.js";
import { inPieces, openEmbedded, opened } from "./opened.js";
import { addedToken, sentencePiece, wordId } from "./sentencepiece.js";

const book = readFileSync("test/data/the-wind-in-the-willows.txt", "utf8");
const folder = mkdtempSync(join(tmpdir(), "lambdatap-pieces-"));
afterAll(() => rmSync(folder, { recursive: true }));

const File = z.looseObject({
  added_tokens: z.array(z.looseObject({ content: z.string() })),
  model: z.looseObject({ vocab: z.record(z.string(), z.int()), merges: z.array(z.unknown()) }),
});

/** A changed copy of the embedded model's tokenizer, three ids larger. */
function changed(change: (file: ReturnType<typeof File.parse>) => void): Promise<Tokenizer> {
  const file = File.parse(JSON.parse(readFileSync("models/default/tokenizer.json", "utf8")));
  change(file);
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(file));
  return opened(folder, 4099);
}

/** The embedded model's has no tokens of several white-space characters; most others have. */
const withSpaceTokens = await changed(({ model }) => {
  Object.assign(model.vocab, { ĠĠ: 4096, ĊĊ: 4097, ĠĊ: 4098 });
  model.merges.push(["Ġ", "Ġ"], ["Ċ", "Ċ"], ["Ġ", "Ċ"]);
});

describe.each([
  ["the embedded model's tokenizer", await openEmbedded()],
  ["one with tokens of white space", withSpaceTokens],
])("encoding in pieces gives the ids of the whole: %s", (_, tokenizer) => {
  const { encode, pieces } = tokenizer;

  test("of a book, in pieces of any size", async () => {
    const text = book.slice(0, 30_000);
    const whole = await encode(text);
    for (const length of [1, 40, 4096]) expect(await inPieces(tokenizer, text, length)).toEqual(whole);
    const sizes = [...pieces(text, 4096)].map((piece) => piece.length);
    expect(Math.max(...sizes)).toBeLessThan(4200);
    expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThanOrEqual(4096);
  });

  test.each([
    ["a run without spaces", "a".repeat(2000)],
    ["white space only", " \n \t  \n\n".repeat(100)],
    ["words between runs of white space", "word  \n\n  word\n \n\tword \r\n word   ".repeat(20)],
    [
      "special tokens at the cuts",
      "word <|endoftext|> word<|user|> word<|endoftext|>\nword <|user |> <|us er|>word\n".repeat(20),
    ],
    ["emoji, CJK and marks", "é ñ e\u0301 x\n東京 は 😀 wide 👨‍👩‍👧 x 여 보세요 \u0301 y\ufeff z\u0085 z ".repeat(20)],
    ["digits and contractions", "12 dogs' 3rd don't I'll 'tis\n1 a2 b½ c ".repeat(20)],
  ])("of %s", async (__, text) => {
    const whole = await encode(text);
    for (const length of [1, 5, 64]) expect(await inPieces(tokenizer, text, length)).toEqual(whole);
    expect([...pieces(text, 64)].join("")).toBe(text);
  });

  test("of 500 random strings", async () => {
    const parts = [
      "a",
      "the",
      "Once",
      "é",
      "東",
      "😀",
      "\u0301",
      "7",
      "½",
      "'s",
      "'",
      ".",
      "<|endoftext|>",
      "<|",
      "|>",
      "_",
      "\u200b",
    ];
    const spaces = [" ", " ", "  ", "\n", "\n\n", " \n", "\t", "\r\n", "\u00a0", "\u3000", "\u0085", "\ufeff", ""];
    const random = xoroshiro128plus(3);
    const pick = (from: readonly string[]) => from[uniformInt(random, 0, from.length - 1)]!;
    for (let i = 0; i < 500; i++) {
      const text = Array.from({ length: 12 }, () => pick(parts) + pick(spaces)).join("");
      expect(await inPieces(tokenizer, text, 1), JSON.stringify(text)).toEqual(await encode(text));
    }
  });
});

describe("a tokenizer that looks across the cuts gets the text in one piece", () => {
  test("one that opens every text with a space", async () => {
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(sentencePiece));
    const { encode, pieces } = await opened(folder, 270);
    expect([...pieces("hi the hi the", 1)]).toEqual(["hi the hi the"]);
    expect(await encode("hi the")).toEqual(Int32Array.of(wordId("▁hi"), wordId("▁the")));
  });

  test("one with an added token of two words", async () => {
    const { encode, pieces } = await changed(({ added_tokens }) => {
      added_tokens.push({ ...addedToken, id: 4096, content: "the end", special: true });
    });
    expect(await encode("the end")).toEqual(Int32Array.of(4096));
    expect([...pieces("Once upon the end", 1)]).toEqual(["Once upon the end"]);
  });

  test("one with an added token that swallows the space behind it", async () => {
    const { encode, pieces } = await changed(({ added_tokens }) => {
      added_tokens.push({ ...addedToken, id: 4096, content: "mask", rstrip: true, special: true });
    });
    expect(await encode("mask upon")).toEqual(await encode("maskupon"));
    expect([...pieces("Once mask upon", 1)]).toEqual(["Once mask upon"]);
  });
});
