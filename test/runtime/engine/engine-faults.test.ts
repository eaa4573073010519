import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { CacheError } from "../../../models/cache/cache-error.js";
import { compileModel } from "../../../models/compile.js";
import { ModelFormatError } from "../../../models/errors.js";
import { ShuttingDown } from "../../../runtime/contract/errors.js";
import type { LocalEngine } from "../../../runtime/engine/engine.js";
import { expectedTensors, goldenFolder, goldenIds } from "../../golden-tensors.js";
import { idsOf, ofKind, promptLogprobs } from "./requests.js";
import { begin, expectClose, expectedLogprobs, read, run, smallEngines } from "./small-engine.js";

const { cacheDir, closeEngines, startEngine } = smallEngines();

const ids = goldenIds("lm-infinite");
const lambdaLogits = expectedTensors("lm-infinite").get("lambda_w32_g4")?.values ?? new Float32Array();

describe("logits that are no numbers", () => {
  const poisoned = 7;
  let engine: LocalEngine;
  beforeAll(async () => {
    const cacheRoot = join(cacheDir, "poisoned");
    const { weights, shape } = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
    const place = weights.places.get("model.embed_tokens.weight");
    if (place === undefined) throw new Error("where is the embedding?");
    const row = shape.hiddenSize * 4;
    const file = openSync(weights.path, "r+");
    writeSync(file, Buffer.alloc(row, 0xff), 0, row, place.offset + poisoned * row);
    closeSync(file);
    engine = await startEngine({ cacheDir: cacheRoot, parallel: 1 });
  });

  it.each<[string, number[]]>([
    ["of the prompt's last token", [1, 2, poisoned]],
    ["because of a token before", [1, poisoned, 2, 3]],
    ["because of a starting token", [poisoned, ...Array<number>(100).fill(3)]],
  ])("%s end that request with an error; the next one on the same row is right", async (_, prompt) => {
    for (const asked of [{ prompt }, { prompt, promptLogprobs: 0 }, { prompt, lambda: { mode: "full" } as const }]) {
      const events = await run(engine, asked);
      expect(events.at(-1)).toMatchObject({ type: "error", index: 0, error: { kind: "not_finite" } });
      expect(idsOf(events)).toEqual([]);
      const clean = ids.map((id) => (id === poisoned ? poisoned + 1 : id)).slice(0, ids.indexOf(poisoned));
      expect(clean.length).toBeGreaterThan(32);
      const next = await run(engine, { prompt: clean, maxTokens: 0, promptLogprobs: 0 });
      expectClose(promptLogprobs(next), expectedLogprobs(lambdaLogits, clean));
    }
  });

  it("do not touch the sequences beside it", async () => {
    const beside = { prompt: ids.slice(0, 40).map((id) => (id === poisoned ? 8 : id)), maxTokens: 30 };
    const alone = idsOf(await run(engine, beside));
    const events = await run(engine, beside, { prompt: [poisoned, 1] }, beside);
    expect(ofKind(events, "error", 1)).toHaveLength(1);
    expect([idsOf(events, 0), idsOf(events, 2)]).toEqual([alone, alone]);
  });
});

describe("an engine ends", () => {
  afterEach(closeEngines);

  it("drained: it takes nothing new, and what runs is written to its end", async () => {
    const engine = await startEngine();
    const running = run(engine, { maxTokens: 300 }, { maxTokens: 20 });
    let drained = 0;
    const draining = [engine.drain(), engine.drain()].map((each) => each.then(() => drained++));
    expect(() => begin(engine, {})).toThrow(ShuttingDown);
    expect(drained).toBe(0);
    expect(idsOf(await running)).toHaveLength(300);
    await Promise.all(draining);
    expect(engine.load()).toEqual({ running: 0, waiting: 0 });
    await engine.drain();
  });

  it("closed: whoever reads gets an error at once, and everything can be closed twice", async () => {
    const engine = await startEngine({ parallel: 1 });
    const running = [begin(engine, { maxTokens: null }), begin(engine, { maxTokens: null })];
    const ends = running.map((events) => expect(read(events)).rejects.toThrow(ShuttingDown));
    const draining = engine.drain();
    await Promise.all([engine.close(), engine.close(), ...ends, draining]);
    expect(() => begin(engine, {})).toThrow(ShuttingDown);
    await engine.close();
  });

  it("when its thread dies: whoever reads gets an error, later requests do, too, and it can be closed", async () => {
    const engine = await startEngine();
    const running = begin(engine, { maxTokens: null });
    const thread: unknown = Reflect.get(engine, "worker");
    if (!(thread instanceof Worker)) throw new Error("where is the engine's thread?");
    const end = expect(read(running)).rejects.toThrow(/^the engine's thread failed/);
    // It dies of a message it does not understand: ended from outside within a native call, it takes the process along.
    thread.postMessage(null);
    await end;
    expect(() => begin(engine, {})).toThrow(/^the engine's thread failed/);
    expect(engine.load()).toEqual({ running: 0, waiting: 0 });
    await engine.drain();
    await engine.close();
    const next = await startEngine();
    expect(idsOf(await run(next, {}))).toHaveLength(8);
  });
});

describe("a model that cannot be served is named when the engine starts", () => {
  const weights = readFileSync(join(goldenFolder("lm-infinite"), "model.safetensors"));
  const folder = (name: string, files: Readonly<Record<string, string | Uint8Array>>): string => {
    const path = join(cacheDir, name);
    mkdirSync(path);
    copyFileSync(join(goldenFolder("lm-infinite"), "config.json"), join(path, "config.json"));
    for (const [file, content] of Object.entries(files)) writeFileSync(join(path, file), content);
    return path;
  };

  it.each<[string, Readonly<Record<string, string | Uint8Array>>, string]>([
    ["without-weights", {}, "without-weights"],
    ["broken-weights", { "model.safetensors": new Uint8Array(9) }, "model.safetensors"],
    ["broken-config", { "config.json": "{" }, "config.json"],
    ["broken-tokenizer", { "model.safetensors": weights, "tokenizer.json": "{}" }, "tokenizer.json"],
  ])("%s", async (name, files, file) => {
    const error = await startEngine({ model: folder(name, files) }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof ModelFormatError)) throw error;
    expect(error.file).toContain(file);
    expect(error.message).toContain(error.reason);
  });
});

it("a cache folder that cannot be used is a sentence for the user", async () => {
  const file = join(cacheDir, "file");
  writeFileSync(file, "");
  await expect(startEngine({ cacheDir: file })).rejects.toThrow(CacheError);
  await expect(startEngine({ cacheDir: file })).rejects.toThrow(`The cache folder ${file} cannot be made`);
});

it("a compilation is reported from its beginning to its end, and the second start needs none", async () => {
  const shares: number[] = [];
  const fresh = { cacheDir: join(cacheDir, "fresh") };
  await startEngine(fresh, (share) => shares.push(share));
  expect(shares.at(-1)).toBe(1);
  expect(shares).toEqual(shares.toSorted((a, b) => a - b));
  shares.length = 0;
  await startEngine(fresh, (share) => shares.push(share));
  expect(shares).toEqual([]);
});
