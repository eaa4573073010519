import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { AskedPrecision } from "../../../models/weights/block-format.js";
import type { LambdaCache, LambdaGeometry } from "../../../runtime/cache/lambda-cache.js";
import { checkIdentity, modelIdentity } from "../../../runtime/cache/model-identity.js";
import { readRow, restoreRow, saveRow } from "../../../runtime/cache/row-snapshot.js";
import { packSnapshot, unpackSnapshot } from "../../../runtime/cache/snapshot.js";
import { SnapshotError, type SnapshotProblem } from "../../../runtime/contract/errors.js";
import type { Runner } from "../../../runtime/graphs/runner.js";
import { goldenFolder } from "../../golden-tensors.js";
import { codedRunner, type KvBits } from "../graphs/coded-runner.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
const runners: Runner[] = [];
afterAll(() => {
  for (const runner of runners) runner[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

/** The server's window, and the row's. */
const WINDOW = 48;
const LAMBDA = { window: 32, sinks: 4 };
const IDS = Array.from({ length: 400 }, (_, i) => 3 + ((i * i * 31 + i * 17 + (i >> 3)) % 90));

async function open(name: string, precision: AskedPrecision = "f32", window = WINDOW, bits: KvBits = null) {
  const source = { path: goldenFolder(name), precision, cacheRoot };
  const { runner, kv } = await codedRunner(source, bits, { window, threads: 1 });
  runners.push(runner);
  return { runner, model: modelIdentity(runner.model, window, kv), shape: runner.model.shape };
}

type Server = Awaited<ReturnType<typeof open>>;

/** Reads tokens [from, to) into a row, in chunks, the last by itself; its logits. */
function read(runner: Runner, cache: LambdaCache, row: number, from: number, to: number): Float32Array {
  for (let n = from; n < to - 1; n += 20) runner.prefill(cache, row, IDS.slice(n, Math.min(n + 20, to - 1)));
  return runner.decode(cache, row, IDS.slice(to - 1, to));
}

/** Logits behind each of ten more tokens, the first three of which come as a chunk. */
function goOn(runner: Runner, cache: LambdaCache, row: number, from: number): Float32Array[] {
  const chunk = runner.prefill(cache, row, IDS.slice(from, from + 3), [0, 1, 2]).slice();
  return [chunk, ...IDS.slice(from + 3, from + 10).map((id) => runner.decode(cache, row, [id]).slice())];
}

/** The bytes of a row that has read so many tokens, and how it goes on by itself. */
function saved({ runner, model }: Server, tokens: number, { window, sinks }: LambdaGeometry = LAMBDA) {
  const cache = runner.openCache({ window: Math.max(window, WINDOW), sinks });
  const row = cache.allocate(window);
  if (tokens > 0) read(runner, cache, row, 0, tokens);
  const bytes = saveRow(cache, row, model);
  const after = goOn(runner, cache, row, tokens);
  runner.closeCache(cache);
  return { bytes, after };
}

/** How a stored row goes on in a cache where others are, and have been. */
function restored({ runner, model, shape }: Server, bytes: Uint8Array, tokens: number): Float32Array[] {
  const stored = readRow(bytes, model, shape);
  const cache = runner.openCache({ window: Math.max(stored.window, WINDOW), sinks: stored.sinks });
  const [, gone] = [cache.allocate(), cache.allocate()];
  read(runner, cache, 0, 100, 130);
  read(runner, cache, gone, 200, 290);
  cache.release(gone);
  const row = restoreRow(cache, stored);
  expect(cache.count(row)).toBe(tokens);
  const after = goOn(runner, cache, row, tokens);
  runner.closeCache(cache);
  return after;
}

describe("a row goes on from its bytes as it would have, bit for bit, in another runner's cache", () => {
  it.each<[string, AskedPrecision, LambdaGeometry, KvBits?]>([
    ["lm-infinite", "f32", LAMBDA],
    ["lm-infinite", "q8", LAMBDA],
    ["lm-infinite", "f16", LAMBDA],
    ["lm-infinite", "f32", { window: 32, sinks: 0 }],
    ["lm-infinite", "f32", { window: Number.POSITIVE_INFINITY, sinks: 0 }],
    ["lm-infinite-alibi", "f32", LAMBDA],
    ["architectures/gemma3_text", "f32", LAMBDA],
    ["architectures/mistral", "f32", LAMBDA],
    ["lm-infinite", "q8", LAMBDA, 8],
    ["lm-infinite", "f32", { window: 20, sinks: 0 }, 8],
    ["architectures/gemma3_text", "f32", LAMBDA, 4],
  ])("%s in %s, %o, keys and values of %s bits", async (name, precision, geometry, bits = null) => {
    const [one, other] = [await open(name, precision, WINDOW, bits), await open(name, precision, WINDOW, bits)];
    for (const tokens of [0, 3, 30, 150]) {
      const { bytes, after } = saved(one, tokens, geometry);
      expect(restored(other, bytes, tokens), `after ${tokens} tokens`).toEqual(after);
    }
  });
});

describe("the bytes of a row", () => {
  it("are as many 2, 5 and 10 windows into the text, and fewer before", async () => {
    const server = await open("lm-infinite");
    const [few, two, five, ten] = [10, 64, 160, 320].map((tokens) => saved(server, tokens).bytes.length);
    expect(five).toBe(two);
    expect(ten).toBe(two);
    const { layers, kvHeads, headDim } = server.shape;
    const payload = layers * kvHeads * headDim * 4 * (2 * (32 + 4) + 4); // keys and values, unrotated starting keys
    expect(two).toBeGreaterThan(payload);
    expect(two).toBeLessThan(payload + 512);
    expect(few).toBeLessThan(two ?? 0);
  });

  it("are those of a row that waited in its neighbours' steps, and of a copy of it", async () => {
    const server = await open("lm-infinite");
    const { runner, model } = server;
    const { after } = saved(server, 100);
    const cache = runner.openCache(LAMBDA);
    cache.allocate();
    read(runner, cache, 0, 0, 100);
    cache.fork(0);
    for (const id of [5, 9]) runner.decode(cache, 0, [null, id]);
    // Whatever those steps have left in the slot of its next token, no number even: nobody may meet it.
    const { kvHeads, headDim } = server.shape;
    for (let head = 0; head < kvHeads; head++)
      cache.values[0]?.fill(Number.NaN, (head * cache.slots(0) + cache.ring(0, 0).slotOf(100)) * headDim, headDim);
    const copy = cache.fork(0);
    for (const row of [0, copy]) expect(restored(server, saveRow(cache, row, model), 100)).toEqual(after);
    runner.closeCache(cache);
  });

  it("do not change the row that they are taken of", async () => {
    const server = await open("lm-infinite");
    const { bytes, after } = saved(server, 77);
    expect(restored(server, bytes, 77)).toEqual(after);
  });
});

const problemOf = (read: () => unknown): SnapshotProblem | "none" => {
  try {
    read();
    return "none";
  } catch (error) {
    if (error instanceof SnapshotError) return error.problem;
    throw error;
  }
};

/** The same snapshot with other contents, under a checksum that is right. */
function rewritten(bytes: Uint8Array, change: (header: Record<string, unknown>) => object, cut = 0): Uint8Array {
  const { header, payload } = unpackSnapshot(bytes);
  const kept = payload.subarray(0, payload.length - cut);
  return packSnapshot(change({ ...Object(header) }), kept.length, (target) => target.set(kept));
}

describe("a row is refused", () => {
  it.each<[string, string, AskedPrecision, number, RegExp]>([
    [
      "of another model",
      "architectures/llama",
      "f32",
      WINDOW,
      /another model \([0-9a-f]{12}; this one is [0-9a-f]{12}\)/,
    ],
    ["of the model in another precision", "lm-infinite", "q8", WINDOW, /in f32, and it is served in q8-block$/],
  ])("%s", async (_, name, precision, window, sentence) => {
    const { bytes } = saved(await open("lm-infinite"), 40);
    const { model, shape } = await open(name, precision, window);
    expect(problemOf(() => readRow(bytes, model, shape))).toBe("model");
    expect(() => readRow(bytes, model, shape)).toThrow(sentence);
  });

  it("whose positions turn otherwise, because the server's window makes longrope take other factors", async () => {
    const path = goldenFolder("architectures/phi3_longrope");
    const { shape, ...model } = await compileModel({ path, precision: "f32", cacheRoot });
    const geometries = shape.geometries.map((geometry) => ({ ...geometry, window: "lambda" as const }));
    const identity = (window: number) => modelIdentity({ ...model, shape: { ...shape, geometries } }, window);
    const [short, long] = [identity(64), identity(65)];
    expect(() => checkIdentity(long, short)).toThrow(/other positions \(longrope takes other factors/);
    expect(problemOf(() => checkIdentity(long, short))).toBe("model");
    expect(identity(10)).toEqual(short);
  });

  it("by a cache with other starting tokens or a smaller window, which stays as it was", async () => {
    const { runner, model, shape } = await open("lm-infinite");
    const stored = readRow(saved({ runner, model, shape }, 40).bytes, model, shape);
    for (const [geometry, sentence] of [
      [{ window: 32, sinks: 0 }, /4 starting tokens, and the cache 0$/],
      [{ window: 31, sinks: 4 }, /a window of 32, and the cache of 31$/],
    ] as const) {
      const cache = runner.openCache(geometry);
      expect(problemOf(() => restoreRow(cache, stored))).toBe("geometry");
      expect(() => restoreRow(cache, stored)).toThrow(sentence);
      expect(cache.rows).toBe(0);
      runner.closeCache(cache);
    }
  });

  it("with fewer keys than its tokens have, or a header that is none", async () => {
    const { model, shape, ...rest } = await open("lm-infinite");
    const { bytes } = saved({ model, shape, ...rest }, 40);
    const row = (change: object) =>
      rewritten(bytes, (header) => ({ ...header, row: { ...LAMBDA, count: 40, ...change } }));
    for (const [wrong, sentence] of [
      [row({ count: 20 }), /bytes of keys and values, and a row of 20 tokens has \d+$/],
      [row({ window: 33 }), /bytes of keys and values/],
      [row({ window: Number.POSITIVE_INFINITY, count: 2 ** 52 }), /bytes of keys and values/],
      [row({ sinks: 3 }), /bytes of keys and values/],
      [rewritten(bytes, (header) => header, 4), /bytes of keys and values/],
      [row({ count: -1 }), /header is wrong, row\.count: /],
      [row({ window: 0 }), /header is wrong, row\.window: /],
      [row({ window: 2.5 }), /header is wrong, row\.window: /],
      [rewritten(bytes, () => ({})), /header is wrong, /],
      [rewritten(bytes, () => [1, 2]), /header is wrong, /],
    ] as const) {
      expect(
        problemOf(() => readRow(wrong, model, shape)),
        `${sentence}`,
      ).toBe("damaged");
      expect(() => readRow(wrong, model, shape)).toThrow(sentence);
    }
    expect(problemOf(() => readRow(row({}), model, shape))).toBe("none");
  });

  it("whatever stands in its header", async () => {
    const { model, shape, ...rest } = await open("lm-infinite");
    const { bytes } = saved({ model, shape, ...rest }, 40);
    fc.assert(
      fc.property(fc.anything({ maxDepth: 2 }), fc.constantFrom("model", "row", "all"), (value, at) => {
        const wrong = rewritten(bytes, (header) =>
          at === "all" ? Object(value ?? {}) : { ...header, [at]: value ?? 0 },
        );
        expect(problemOf(() => readRow(wrong, model, shape))).toBe("damaged");
      }),
      { numRuns: 200 },
    );
  });
});
