import { expect, test } from "vitest";
import { freshPrompt } from "../../../loadtest/perplexity/modes.js";
import { planOf } from "../../../loadtest/perplexity/plan.js";

const ids = Array.from({ length: 40 }, (_, i) => i);
const window = { window: 8, sinks: 3 };

test("re-encoded are the W tokens before a position; truncation the first G and the last W - G", () => {
  expect(freshPrompt("re-encoded", ids, 20, window)).toEqual([12, 13, 14, 15, 16, 17, 18, 19]);
  expect(freshPrompt("truncation", ids, 20, window)).toEqual([0, 1, 2, 15, 16, 17, 18, 19]);
  expect(freshPrompt("truncation", ids, 20, { window: 8, sinks: 0 })).toEqual(
    freshPrompt("re-encoded", ids, 20, window),
  );
  expect(freshPrompt("truncation", ids, 20, { window: 2, sinks: 3 })).toEqual([0, 1]);
});

test("both are the whole text while it is no longer than the window", () => {
  for (const part of ["re-encoded", "truncation"] as const) {
    expect(freshPrompt(part, ids, 8, window)).toEqual(ids.slice(0, 8));
    expect(freshPrompt(part, ids, 1, window)).toEqual([0]);
    expect(freshPrompt(part, ids, 9, window)).toHaveLength(8);
  }
});

test("a plan samples where something has left the window, and reads full attention to its own length", () => {
  const settings = { samples: 4, seed: 1, fullTokens: 20 };
  const plan = planOf(ids, { window: 15, sinks: 3 }, false, { ...settings, modes: ["lambda", "full", "truncation"] });
  expect(plan.buckets.map(({ from, to }, i) => [from, to, plan.positions[i]?.length])).toEqual([
    [1, 16, 0],
    [16, 32, 4],
    [32, 40, 4],
  ]);
  expect([...plan.passes]).toEqual([
    ["lambda", 40],
    ["full", 20],
  ]);
  expect(plan.fresh).toEqual(["re-encoded", "truncation"]);
  expect(planOf(ids, window, false, { ...settings, modes: ["truncation"] }).fresh).toEqual(["truncation"]);
  expect(planOf(ids, window, false, { ...settings, modes: ["full"] }).fresh).toEqual([]);
});
