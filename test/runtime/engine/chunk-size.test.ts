import { expect, it } from "vitest";
import { ChunkSize } from "../../../runtime/engine/chunk-size.js";

/** Sizes that a prefill takes on a machine where a chunk costs `fixed` + `perToken` ms. */
function sizesTaken(chunks: ChunkSize, chunkCount: number, fixed: number, perToken: number, shared = false): number[] {
  return Array.from({ length: chunkCount }, () => {
    const size = chunks.next(10_000, shared);
    chunks.measured(size, fixed + perToken * size);
    return size;
  });
}

it("grows to the largest chunk on a fast machine", () => {
  expect(sizesTaken(new ChunkSize(4096, 5e8), 9, 1, 0.05).at(-1)).toBe(512);
});

it("never exceeds the window, or what is left", () => {
  const chunks = new ChunkSize(100, 5e8);
  expect(Math.max(...sizesTaken(chunks, 20, 1, 0.05))).toBe(64);
  expect(chunks.next(5, false)).toBe(5);
  expect(new ChunkSize(3, 5e8).next(100, false)).toBe(3);
});

it("stays within 250 ms where a large fixed cost hides what a token costs", () => {
  const sizes = sizesTaken(new ChunkSize(4096, 5e8), 40, 90, 2);
  expect(sizes.at(-1)).toBe(32);
  expect(Math.max(...sizes.map((size) => 90 + 2 * size))).toBeLessThanOrEqual(250);
});

it("takes smaller chunks while others wait", () => {
  const chunks = new ChunkSize(4096, 5e8);
  sizesTaken(chunks, 10, 4, 1);
  expect(chunks.next(10_000, false)).toBe(128);
  expect(chunks.next(10_000, true)).toBe(32);
});

it("tries a size again that was slow once", () => {
  const chunks = new ChunkSize(4096, 5e8);
  sizesTaken(chunks, 5, 1, 0.2);
  chunks.measured(512, 5000);
  expect(Math.max(...sizesTaken(chunks, 800, 1, 0.2))).toBe(512);
});

it("takes the same size whatever was measured where a text must come out the same", () => {
  const chunks = new ChunkSize(4096, 5e8);
  const before = chunks.steady(1000);
  sizesTaken(chunks, 20, 1, 0.01);
  expect(chunks.steady(1000)).toBe(before);
  expect(chunks.steady(5)).toBe(5);
  expect(new ChunkSize(256, 1e7).steady(1000)).toBe(256);
  expect(new ChunkSize(4096, 5e9).steady(1000)).toBe(8);
});

it("takes what keeps a GPU busy, however large the model is", () => {
  const chunks = new ChunkSize(4096, 5e9, false);
  expect(chunks.steady(10_000)).toBe(1024);
  expect(chunks.steady(5)).toBe(5);
  expect(new ChunkSize(256, 5e9, false).steady(1000)).toBe(256);
  expect(sizesTaken(chunks, 10, 1, 0.05).at(-1)).toBe(1024);
});
