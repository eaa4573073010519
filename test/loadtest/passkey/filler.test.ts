import { expect, test } from "vitest";
import { AUTHORS_FILLER, fillerText, piecesOf } from "../../../loadtest/passkey/filler.js";

test("a book's sentences stay whole, short ones together, and long ones are cut between words", () => {
  const [short, whole] = ["'No!' said the Rat.", `He ${"walked and ".repeat(8)}sang.`];
  expect(piecesOf(`${short}\n\n${short} ${whole}  Then`)).toEqual([`${short} ${short} ${whole}`, "Then"]);
  const long = Array.from({ length: 100 }, (_, i) => `word${i}`);
  const pieces = piecesOf(long.join("\n"));
  expect(pieces.join(" ")).toBe(long.join(" "));
  for (const piece of pieces) expect(piece.length).toBeLessThan(170);
});

test("pieces follow each other from any one of them on, the first behind the last", () => {
  expect(fillerText({ name: "letters", pieces: ["a", "b", "c"] }, 7, 5)).toEqual(["b", "c", "a", "b", "c"]);
  expect(new Set(fillerText(AUTHORS_FILLER, 48_213, 9))).toEqual(new Set(AUTHORS_FILLER.pieces));
});
