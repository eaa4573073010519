import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, test } from "vitest";
import { onSharedMemory, packTokenBytes, TokenBytes, TokenFlag } from "../../../models/tokenizer/token-bytes.js";
import { behindPrompt, Detokenizer, startOfText, tokenText } from "../../../runtime/sampling/detokenizer.js";
import { openEmbedded } from "../../models/tokenizer/opened.js";
import { packedTokens } from "../../models/tokenizer/packed-tokens.js";

const utf8 = new TextEncoder();
/** Ids 0..255 are single bytes, 256 is special. */
const bytewise = packedTokens(
  [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), utf8.encode("<|end|>")],
  [256],
);
/** The pieces as the client gets them, what the end releases last. */
function pieces(tokens: TokenBytes, ids: ArrayLike<number>): string[] {
  const detokenizer = new Detokenizer(tokens);
  return [...Array.from(ids, (id) => detokenizer.push(id)), detokenizer.flush()];
}

describe("a character comes out whole, with its last byte", () => {
  test.each([
    "a",
    "é",
    "東",
    "😀",
    "e\u0301",
    "👨‍👩‍👧",
    "\ufeffx",
    "ÿ\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}",
  ])("%j", (text) => {
    const ids = [...utf8.encode(text)];
    const got = pieces(bytewise, ids);
    expect(got.join("")).toBe(text);
    expect(got.filter((piece) => piece !== "")).toEqual([...text]);
  });

  test.each(["é", "東", "😀"])("wherever tokens split it: %s", (character) => {
    const bytes = utf8.encode(`<${character}>`);
    for (let first = 1; first < bytes.length; first++) {
      for (let second = first; second < bytes.length; second++) {
        const parts = [bytes.slice(0, first), bytes.slice(first, second), bytes.slice(second)];
        const got = pieces(packedTokens(parts), [0, 1, 2]);
        expect(got.join("")).toBe(`<${character}>`);
        expect(got.join("|")).not.toContain("\ufffd");
      }
    }
  });
});

describe("bytes that are no character become U+FFFD as soon as that is certain", () => {
  test.each<[string, number[], string[]]>([
    ["a lone continuation", [0x80, 0x61], ["\ufffd", "a", ""]],
    ["a cut character", [0xe6, 0x9d, 0x61], ["", "", "\ufffda", ""]],
    ["a character cut by another", [0xf0, 0x9f, 0xc3, 0xa9], ["", "", "\ufffd", "é", ""]],
    ["bytes that never occur", [0xc0, 0xff, 0xf5], ["\ufffd", "\ufffd", "\ufffd", ""]],
    ["overlong forms", [0xe0, 0x80, 0x80, 0xf0, 0x8f], ["", "\ufffd\ufffd", "\ufffd", "", "\ufffd\ufffd", ""]],
    ["surrogates", [0xed, 0xa0, 0x80], ["", "\ufffd\ufffd", "\ufffd", ""]],
    ["beyond U+10FFFF", [0xf4, 0x90, 0x80], ["", "\ufffd\ufffd", "\ufffd", ""]],
    ["the end", [0x61, 0xf0, 0x9f, 0x98], ["a", "", "", "", "\ufffd"]],
  ])("%s", (_, ids, expected) => {
    expect(pieces(bytewise, ids)).toEqual(expected);
  });

  test("and all pieces together are the text of all ids, for 3,000 random sequences", () => {
    const random = xoroshiro128plus(1);
    const bytes = [0x41, 0x80, 0x9f, 0xa0, 0xbf, 0xc1, 0xc3, 0xe0, 0xe6, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 256];
    for (let i = 0; i < 3000; i++) {
      const ids = Array.from(
        { length: uniformInt(random, 1, 9) },
        () => bytes[uniformInt(random, 0, bytes.length - 1)]!,
      );
      expect(pieces(bytewise, ids).join(""), String(ids)).toBe(bytewise.decode(ids));
    }
  });
});

test("special tokens yield nothing and do not break a character in two", () => {
  expect(pieces(bytewise, [0xc3, 256, 0xa9, 256])).toEqual(["", "", "é", "", ""]);
});

test("streams the embedded model's tokens", async () => {
  const tokenizer = await openEmbedded();
  const text = "Once upon a time, naïve 東京 😀😀 said: “no”.\n";
  expect(pieces(tokenizer.tokens, await tokenizer.encode(text)).join("")).toBe(text);
});

test("a SentencePiece text loses its first space at its start only", () => {
  const tokens = packedTokens(
    ["<s>", " hi", " ", "x"].map((word) => utf8.encode(word)),
    [0],
    1,
  );
  const fromStart = new Detokenizer(tokens, startOfText(tokens));
  expect([0, 1, 1].map((id) => fromStart.push(id))).toEqual(["", "hi", " hi"]);
  const spaceAlone = new Detokenizer(tokens, startOfText(tokens));
  expect([2, 1].map((id) => spaceAlone.push(id))).toEqual(["", " hi"]);
  const wordFirst = new Detokenizer(tokens, startOfText(tokens));
  expect([3, 1].map((id) => wordFirst.push(id))).toEqual(["x", " hi"]);
  const continued = new Detokenizer(tokens);
  expect(continued.push(1)).toBe(" hi");
});

test("goes on from a saved state in the middle of a character", () => {
  const first = new Detokenizer(bytewise);
  first.push(0xf0);
  first.push(0x9f);
  const state = structuredClone(first.state());
  expect(state).toEqual({ pending: [0xf0, 0x9f], strip: 0, opens: false, spaced: false });
  const second = new Detokenizer(bytewise, state);
  expect([0x98, 0x80].map((id) => second.push(id))).toEqual(["", "😀"]);
});

test("the bytes of tokens work on another thread's side as well", () => {
  const other = new TokenBytes(structuredClone(onSharedMemory(bytewise.data)));
  expect(other.data.bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(pieces(other, [0xc3, 0xa9]).join("")).toBe("é");
});

test("without a tokenizer text is empty and tokens are called by number", () => {
  const detokenizer = new Detokenizer(null);
  expect(detokenizer.push(5) + detokenizer.flush()).toBe("");
  expect(tokenText(null, 5)).toBe("token_id:5");
  expect(tokenText(bytewise, 0x61)).toBe("a");
  expect(tokenText(bytewise, 0xe2)).toBe("bytes:\\xe2");
  expect(tokenText(bytewise, 256)).toBe("<|end|>");
});

describe("where characters without a token are spelled in bytes", () => {
  const bytes = Array.from({ length: 256 }, (_, byte) => ({ bytes: Uint8Array.of(byte), flags: TokenFlag.byte }));
  const rules = { spelled: true, strip: { content: " ", count: 0 } };
  const spelled = packTokenBytes([...bytes, { bytes: utf8.encode(" hi"), flags: 0 }], rules);

  test("a run of bytes is given out when it ends", () => {
    expect(pieces(spelled, [...utf8.encode("東"), 256])).toEqual(["", "", "", "東 hi", ""]);
    expect(pieces(spelled, [...utf8.encode("é")])).toEqual(["", "", "é"]);
  });

  test("a run that is broken is U+FFFD for every byte of it, as the library has it", () => {
    expect(pieces(spelled, [...utf8.encode("é"), 0xe6, 256])).toEqual(["", "", "", "\ufffd\ufffd\ufffd hi", ""]);
    expect(spelled.decode([...utf8.encode("é"), 0xe6, 256])).toBe("\ufffd\ufffd\ufffd hi");
  });

  test("one that does not end comes out all the same, in whole characters", () => {
    const run = [...utf8.encode("東".repeat(100))];
    const got = pieces(spelled, run);
    expect(got.join("")).toBe("東".repeat(100));
    expect(got.slice(0, 64).join("")).toBe("東".repeat(21));
  });
});

test("words whose end is a space are apart from what follows a prompt, and the last is not", () => {
  const rules = { spelled: false, strip: { content: " ", count: 0 } };
  const words = packTokenBytes(
    ["the", "mole"].map((word) => ({ bytes: utf8.encode(word), flags: TokenFlag.spaced })),
    rules,
  );
  expect(words.decode([0, 1])).toBe("the mole");
  const behind = new Detokenizer(words, behindPrompt(words, 0));
  expect([behind.push(1), behind.push(1), behind.flush()]).toEqual([" mole", " mole", ""]);
});
