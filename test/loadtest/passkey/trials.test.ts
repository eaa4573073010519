import { expect, test } from "vitest";
import { planTrials, type TrialSettings } from "../../../loadtest/passkey/trials.js";

const SETTINGS: TrialSettings = { lengths: [1, 2, 4], depths: 3, trials: 2, digits: null, seed: 7 };

test("every length and depth has its trials, one of each before the second of any", () => {
  const trials = planTrials(SETTINGS);
  const places = trials.map(({ length, depth }) => `${length} ${depth}`);
  expect(places.slice(0, 9)).toEqual(places.slice(9));
  expect(places.slice(0, 9)).toEqual(["1 0", "1 0.5", "1 1", "2 0", "2 0.5", "2 1", "4 0", "4 0.5", "4 1"]);
  expect(trials.map(({ repetition }) => repetition)).toEqual([...Array(9).fill(0), ...Array(9).fill(1)]);
});

test("a seed makes the same trials again, another seed others", () => {
  expect(planTrials(SETTINGS)).toEqual(planTrials(SETTINGS));
  const keys = (seed: number) => planTrials({ ...SETTINGS, seed }).map(({ key }) => key);
  expect(keys(7)).not.toEqual(keys(8));
  expect(new Set(keys(7)).size).toBe(18);
});

test("more lengths or more trials leave those there were as they were", () => {
  const longer = planTrials({ ...SETTINGS, lengths: [1, 2, 4, 8], trials: 3 });
  for (const trial of planTrials(SETTINGS)) expect(longer).toContainEqual(trial);
});

test("keys are from 1 to 9,999,999, or of exactly so many digits", () => {
  const many = (digits: number | null) => planTrials({ ...SETTINGS, trials: 300, digits }).map(({ key }) => key);
  for (const key of many(5)) expect(String(key)).toMatch(/^\d{5}$/);
  const any = many(null);
  expect(Math.min(...any)).toBeGreaterThanOrEqual(1);
  expect(Math.max(...any)).toBeLessThanOrEqual(9_999_999);
  const mean = any.reduce((sum, key) => sum + key, 0) / any.length;
  expect(mean / 9_999_999).toBeCloseTo(0.5, 1);
});

test("random depths are spread over the whole prompt, one for each trial of a length", () => {
  const depths = planTrials({ ...SETTINGS, depths: "random", trials: 200 }).map(({ depth }) => depth);
  expect(depths).toHaveLength(600);
  expect(Math.min(...depths)).toBeLessThan(0.05);
  expect(Math.max(...depths)).toBeGreaterThan(0.95);
});

test("a single depth is the middle", () => {
  expect(planTrials({ ...SETTINGS, depths: 1, trials: 1 }).map(({ depth }) => depth)).toEqual([0.5, 0.5, 0.5]);
});
