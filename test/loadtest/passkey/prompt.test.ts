import { expect, test } from "vitest";
import { AUTHORS_FILLER as filler } from "../../../loadtest/passkey/filler.js";
import { passkeyText, placeKey } from "../../../loadtest/passkey/prompt.js";

const PREFIX =
  "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about the important information there.";
const FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
const KEY = "The pass key is 48213. Remember it. 48213 is the pass key.";
const QUESTION = "What is the pass key? The pass key is";

test("a prompt is the authors' wording to the letter, its parts joined by single spaces", () => {
  expect(passkeyText({ key: 48213, filler, before: 2, after: 1, question: QUESTION })).toBe(
    `${PREFIX} ${FILLER} ${FILLER} ${KEY} ${FILLER} ${QUESTION}`,
  );
});

test("without a question the prompt ends as the authors' does, after the last filler or the key sentence", () => {
  expect(passkeyText({ key: 48213, filler, before: 0, after: 1, question: "" })).toBe(`${PREFIX} ${KEY} ${FILLER}`);
  expect(passkeyText({ key: 48213, filler, before: 1, after: 0, question: "" })).toBe(`${PREFIX} ${FILLER} ${KEY}`);
});

test("depth 0 puts the key sentence before all fillers, depth 1 after them, and between in proportion", () => {
  expect(placeKey(10, 0)).toEqual({ before: 0, after: 10 });
  expect(placeKey(10, 1)).toEqual({ before: 10, after: 0 });
  expect(placeKey(10, 0.25)).toEqual({ before: 3, after: 7 });
  expect(placeKey(0, 0.5)).toEqual({ before: 0, after: 0 });
});
