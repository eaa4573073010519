import { expect, test } from "vitest";
import { inMode, truncate } from "../../../loadtest/passkey/modes.js";

const ids = Array.from({ length: 100 }, (_, i) => i);
const SETTINGS = {
  window: 20,
  asksWindow: false,
  sinks: 3,
  answer: 5,
  retrieval: { k: 5, from_layer: 2, distance: 10 },
};

test("truncation keeps the first G and the last ids, so that with the answer there are W", () => {
  const kept = truncate(ids, SETTINGS);
  expect(kept).toEqual([0, 1, 2, ...ids.slice(-12)]);
  expect(kept).toHaveLength(SETTINGS.window - SETTINGS.answer);
});

test("truncation leaves a prompt alone that fits, and cuts one id of one that is longer by one", () => {
  expect(truncate(ids.slice(0, 15), SETTINGS)).toEqual(ids.slice(0, 15));
  expect(truncate(ids.slice(0, 16), SETTINGS)).toEqual([0, 1, 2, ...ids.slice(4, 16)]);
});

test("truncation without sinks is the last ids; where nothing fits it is refused in a sentence", () => {
  expect(truncate(ids, { ...SETTINGS, sinks: 0 })).toEqual(ids.slice(-15));
  expect(() => truncate(ids, { ...SETTINGS, answer: 17 })).toThrow(/a window of 20 tokens has no room for 3 sinks/);
});

test("each mode asks for its own way of attending", () => {
  expect(inMode("lambda", ids, SETTINGS)).toEqual({ prompt: ids, lm_infinite: { mode: "lambda" } });
  expect(inMode("full", ids, SETTINGS)).toEqual({ prompt: ids, lm_infinite: { mode: "full" } });
  expect(inMode("retrieve", ids, SETTINGS).lm_infinite).toEqual({ mode: "lambda", retrieve: SETTINGS.retrieval });
  expect(inMode("truncation", ids, SETTINGS)).toEqual({
    prompt: truncate(ids, SETTINGS),
    lm_infinite: { mode: "lambda" },
  });
});
