import { expect, it } from "vitest";
import type { KvType } from "../../../models/keys-values/kv-format.js";
import { promptGrid } from "../../../runtime/engine/prompt-grid.js";

const LAMBDA = { window: "lambda", positions: { kind: "none" } } as const;

const grid = (bytes: number, window: number, isHost = true, trained?: number, kv: KvType = "float32") => {
  const geometries = trained === undefined ? [LAMBDA] : [LAMBDA, { ...LAMBDA, window: trained }];
  return promptGrid({ shape: { geometries }, weights: { bytes } }, isHost, window, kv);
};

it("lines are as far apart as the model is quick, and prompts are free until something is evicted", () => {
  expect(grid(1e7, 1000)).toEqual({ grid: 64, free: 960, block: 64 });
  expect(grid(5e8, 1024)).toEqual({ grid: 64, free: 1024, block: 64 });
  expect(grid(1e10, 1024)).toEqual({ grid: 8, free: 1024, block: 64 });
  expect(grid(1e7, 20)).toEqual({ grid: 20, free: 20, block: 60 });
});

it("layers with a trained window evict before the others", () => {
  expect(grid(1e7, 1024, true, 200)).toEqual({ grid: 64, free: 192, block: 64 });
  expect(grid(1e7, 1024, true, 16)).toEqual({ grid: 16, free: 16, block: 64 });
});

it("no chunk is longer than the window of its text, where layers have none but larger ones", () => {
  const shape = { geometries: [{ ...LAMBDA, window: 16 }] };
  for (const kv of ["float32", "q8"] as const)
    expect(promptGrid({ shape, weights: { bytes: 1e7 } }, true, 7, kv)).toEqual({ grid: 7, free: 7, block: 63 });
});

it("where tokens are appended, one fewer is kept of what a chunk as long as a window has written", () => {
  expect(grid(5e8, 1024, true, undefined, "q8")).toEqual({ grid: 64, free: 960, block: 64 });
  expect(grid(1e7, 1024, true, 16, "q8")).toEqual({ grid: 15, free: 15, block: 60 });
  expect(grid(1e7, 1, true, undefined, "q4")).toEqual({ grid: 1, free: 1, block: 64 });
});

it("a text that keeps all keys is free to its end", () => {
  expect(grid(1e7, Number.POSITIVE_INFINITY)).toEqual({ grid: 64, free: Number.POSITIVE_INFINITY, block: 64 });
});

it("on a GPU all prompts are cut on the grid, in what keeps it busy", () => {
  expect(grid(5e9, 4096, false)).toEqual({ grid: 1024, free: 0, block: 256 });
  expect(grid(5e9, 1000, false)).toEqual({ grid: 768, free: 0, block: 256 });
  expect(grid(5e9, 100, false)).toEqual({ grid: 100, free: 0, block: 100 });
});
