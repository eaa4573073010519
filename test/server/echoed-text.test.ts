import { expect, test } from "vitest";
import { cutText, textLength } from "../../server/openai/echoed-text.js";

test("an echoed text is cut between characters, never within one, and its pieces are the text", () => {
  const text = "a\u{1f600}b\u{1f600}\u{1f600}c";
  const cut = cutText(text);
  expect([1, 1, 2, 0, 1].map((characters) => cut.next(characters))).toEqual([
    "a",
    "\u{1f600}",
    "b\u{1f600}",
    "",
    "\u{1f600}",
  ]);
  expect([cut.rest(), cut.rest(), cut.next(3)]).toEqual(["c", "", ""]);
});

test("a text that is shorter than its tokens say ends where it ends; of a longer one the rest is left", () => {
  const short = cutText("ab");
  expect([short.next(5), short.next(1), short.rest()]).toEqual(["ab", "", ""]);
  const long = cutText("abcd");
  expect([long.next(1), long.rest()]).toEqual(["a", "bcd"]);
});

test("a token has as many characters as its text, and one that is part of a character counts where that begins", () => {
  expect(["", "ab", "\u{1f600}", "bytes:\\xe2\\x82", "bytes:\\xac", "bytes: no"].map(textLength)).toEqual([
    0, 2, 1, 1, 0, 9,
  ]);
});
