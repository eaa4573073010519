import { afterEach, describe, expect, it, vi } from "vitest";
import type { ModelShape } from "../../../models/model-shape.js";
import { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import { CPU, type Device } from "../../../runtime/ort/device.js";
import { OrtError } from "../../../runtime/ort/library.js";
import { FAR_CPU } from "../ort/far-cpu.js";

const ROTARY = { kind: "rotary", rope: { type: "default", theta: 10_000 }, rotaryDim: 4 } as const;

/** Two layers: one with LM-Infinite's window, one with a trained window of 8. */
const SHAPE: ModelShape = {
  vocabSize: 16,
  hiddenSize: 8,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 4,
  trainedLength: 64,
  bosTokenId: null,
  eosTokenIds: [],
  geometries: [
    { window: "lambda", positions: ROTARY },
    { window: 8, positions: ROTARY },
  ],
  layerGeometries: [0, 1],
  learnedPositions: null,
  postNorm: false,
  ignoresMean: "never",
};

/** A CPU that has memory until it is `full`. */
function scarce(): { readonly device: Device; full: boolean } {
  const memory = {
    full: false,
    device: {
      ...CPU,
      untouched: (...asked: Parameters<Device["untouched"]>) => {
        if (memory.full) throw new OrtError(6, "allocation failed");
        return CPU.untouched(...asked);
      },
    },
  };
  return memory;
}

const contents = (cache: LambdaCache): number[][] =>
  [...cache.keys, ...cache.values].map((tensor) => [...tensor.read(new Float32Array(tensor.size))]);

const knowsWhatIsLeft = process.platform === "linux" && typeof process.availableMemory === "function";

describe.runIf(knowsWhatIsLeft)("where the machine promises memory that it does not have, a cache", () => {
  const MB = 2 ** 20;
  const wide: ModelShape = { ...SHAPE, headDim: 512, geometries: [SHAPE.geometries[0]!, SHAPE.geometries[0]!] };
  const withMemory = (bytes: number) => vi.spyOn(process, "availableMemory").mockReturnValue(bytes);
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("does not grow where its buffers fit one by one but not together", () => {
    using cache = new LambdaCache(wide, { window: 8192, sinks: 4 });
    const row = cache.allocate();
    const { bytes } = cache;
    withMemory(100 * MB); // Each buffer takes 32 MB.
    expect(() => cache.reserve(row, 8000)).toThrow(OrtError);
    expect(() => cache.reserve(row, 8000)).toThrow(/allocating a cache .* the machine has no \d+ bytes left/);
    expect([cache.rows, cache.bytes]).toEqual([1, bytes]);
  });

  it("does not grow where it lies, and is as before; with memory it goes on", () => {
    using cache = new LambdaCache(wide, { window: 8192, sinks: 4 });
    const row = cache.allocate();
    cache.reserve(row, 5000);
    for (const [i, tensor] of [...cache.keys, ...cache.values].entries()) tensor.fill(i + 1);
    const [slots, generation] = [cache.slots(0), cache.generation];
    withMemory(MB / 2);
    for (const grow of [() => cache.allocate(), () => cache.fork(row), () => cache.reserve(row, slots + 1)])
      expect(grow).toThrow("allocating a cache");
    expect([cache.rows, cache.slots(0), cache.generation, cache.keys[1]?.shape[0]]).toEqual([1, slots, generation, 1]);
    expect(cache.values[0]?.read(new Float32Array(4), 2 * slots * 512 - 4)).toEqual(new Float32Array(4).fill(3));
    vi.restoreAllMocks();
    cache.reserve(row, slots + 1);
    expect(cache.slots(0)).toBeGreaterThan(slots);
    expect(cache.values[0]?.read(new Float32Array(4), slots * 512 - 4)).toEqual(new Float32Array(4).fill(3));
  });

  it("of a device does not ask the host", () => {
    using cache = new LambdaCache(wide, { window: 8192, sinks: 4 }, "float32", FAR_CPU);
    const row = cache.allocate();
    withMemory(MB); // The double lies in the host's memory, but its tensors are too small to be asked about one by one.
    cache.reserve(row, 5000);
    expect(cache.slots(0)).toBeGreaterThan(5000);
  });
});

describe("rows of a cache", () => {
  it("have windows of their own, and as many slots as the longest needs", () => {
    using cache = new LambdaCache(SHAPE, { window: 4096, sinks: 4 });
    const short = cache.allocate(24);
    expect([cache.slots(0), cache.slots(1)]).toEqual([32, 16]);
    const long = cache.allocate();
    cache.reserve(long, 1000);
    expect([cache.slots(0), cache.slots(1)]).toEqual([1040, 16]);
    expect([cache.windowOf(short), cache.ring(short, 0).full, cache.ring(short, 1).full]).toEqual([24, 28, 8]);
    expect([cache.windowOf(long), cache.ring(long, 0).full, cache.ring(long, 1).full]).toEqual([4096, 4100, 8]);
  });

  it("take their windows along when they move", () => {
    using cache = new LambdaCache(SHAPE, { window: 64, sinks: 4 });
    const [first, last] = [cache.allocate(8), cache.allocate(16)];
    cache.advance(last);
    expect(cache.release(first)).toBe(last);
    expect([cache.windowOf(0), cache.count(0), cache.rows]).toEqual([16, 1, 1]);
  });

  it.each([0, -1, 65, Number.NaN, Number.POSITIVE_INFINITY])("cannot have a window of %d in one of 64", (window) => {
    using cache = new LambdaCache(SHAPE, { window: 64, sinks: 4 });
    expect(() => cache.allocate(window)).toThrow("a row's window must be between 1 and 64");
    expect(cache.rows).toBe(0);
  });

  it("are as before where there is no memory for one more, or for a copy", () => {
    const memory = scarce();
    using cache = new LambdaCache(SHAPE, { window: 1000, sinks: 4 }, "float32", memory.device);
    for (let row = 0; row < 4; row++) cache.allocate();
    for (const [i, tensor] of [...cache.keys, ...cache.values].entries()) tensor.fill(i + 1);
    const before = contents(cache);
    memory.full = true;
    expect(() => cache.allocate(8)).toThrow("allocation failed");
    expect(() => cache.fork(1)).toThrow("allocation failed");
    expect(() => cache.reserve(1, 900)).toThrow("allocation failed");
    expect([cache.rows, cache.slots(0), contents(cache)]).toEqual([4, 80, before]);
    memory.full = false;
    expect(cache.fork(1)).toBe(4);
    const fifth = before.map((values) => values.slice(0, values.length / 4));
    expect(contents(cache).map((values, i) => values.slice(0, before[i]!.length + fifth[i]!.length))).toEqual(
      before.map((values, i) => [...values, ...fifth[i]!]),
    );
  });

  it("take the bytes that were foretold, in steps, and give them back when most of them or the longest have left", () => {
    using cache = new LambdaCache(SHAPE, { window: 4096, sinks: 4 });
    const steps = Array.from({ length: 9 }, () => {
      cache.allocate(24);
      expect(cache.bytes).toBe(cache.bytesFor(cache.rows, 1, 24));
      return cache.capacity;
    });
    expect(steps).toEqual([1, 2, 3, 4, 6, 6, 8, 8, 12]);
    const long = cache.allocate();
    cache.reserve(long, 3000);
    expect(cache.bytes).toBe(cache.bytesFor(10, 3000));
    cache.fork(long);
    cache.release(long);
    expect(cache.slots(0)).toBe(3072 + 16);
    cache.keys[0]?.fill(7);
    cache.release(9);
    expect([cache.capacity, cache.slots(0), cache.bytes]).toEqual([12, 32, cache.bytesFor(9, 1, 24)]);
    expect(cache.keys[0]?.read(new Float32Array(9 * 2 * 32 * 4)).every((value) => value === 7)).toBe(true);
    while (cache.rows > 2) cache.release(0);
    expect(cache.bytes).toBeLessThan(4 * cache.bytesFor(2, 1, 24));
  });

  it("stay where they are on a device, whose recordings would be lost, and where there is no memory to move", () => {
    using far = new LambdaCache(SHAPE, { window: 64, sinks: 4 }, "float32", FAR_CPU);
    for (let row = 0; row < 9; row++) far.allocate();
    expect(far.capacity).toBe(16);
    while (far.rows > 1) far.release(0);
    expect(far.capacity).toBe(16);
    const memory = scarce();
    using cache = new LambdaCache(SHAPE, { window: 64, sinks: 4 }, "float32", memory.device);
    for (let row = 0; row < 8; row++) cache.allocate();
    memory.full = true;
    while (cache.rows > 1) cache.release(0);
    expect(cache.capacity).toBe(8);
  });

  it("that are not in use have no window, and no copy", () => {
    using cache = new LambdaCache(SHAPE, { window: 64, sinks: 4 });
    for (const use of [() => cache.fork(0), () => cache.windowOf(0), () => cache.ring(0, 0), () => cache.scribble(0)])
      expect(use).toThrow("row 0 is not in use");
  });
});
