import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { inspectModel } from "../../../models/inspect.js";
import { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import { SetupError } from "../../../runtime/contract/errors.js";
import { LocalEngine } from "../../../runtime/engine/engine.js";
import { expectedTensors, goldenFolder, goldenIds } from "../../golden-tensors.js";
import { idsOf, promptLogprobs } from "./requests.js";
import { expectedLogprobs, run, smallEngines } from "./small-engine.js";

const { startEngine, cacheDir } = smallEngines();
const ids = goldenIds("lm-infinite").slice(0, 200);

it("an engine that keeps keys and values in 8 bits gives the paper's log-probabilities, to their precision", async () => {
  const engine = await startEngine({ kv: "q8" });
  expect(engine.card).toMatchObject({ precision: "f32", kv: "q8" });
  const events = await run(engine, { prompt: ids, promptLogprobs: 0, maxTokens: 4 });
  const golden = expectedTensors("lm-infinite").get("lambda_w32_g4")?.values ?? new Float32Array();
  const want = expectedLogprobs(golden.subarray(0, ids.length * 256), ids);
  // Logits have a standard deviation of 2.9.
  const squares = promptLogprobs(events).map((value, i) => (value - (want[i] ?? Number.NaN)) ** 2);
  expect(Math.sqrt(squares.reduce((a, b) => a + b, 0) / want.length)).toBeLessThan(0.15);
  expect(idsOf(events)).toHaveLength(4);
});

it("an engine counts the keys and values of all its texts that stand at an end of what 4 bits hold", async () => {
  const engine = await startEngine({ model: join("models", "default"), window: 64, kv: "q4" });
  const prompt = Array.from({ length: 200 }, (_, i) => (i * 7919) % 4000);
  expect(engine.counts.saturated).toBe(0);
  await run(engine, { prompt, maxTokens: 4 });
  const { saturated } = engine.counts;
  expect(saturated).toBeGreaterThan(0);
  await run(engine, { prompt, maxTokens: 4, cacheSalt: "read anew" });
  expect(engine.counts.saturated).toBe(2 * saturated);
});

it("what keys and values get to is measured when a model is first opened, and said once", async () => {
  const notices: string[] = [];
  const start = async () => {
    const options = { model: goldenFolder("architectures/llama"), kv: "q8", precision: "f32", threads: 1 } as const;
    const engine = await LocalEngine.start(
      { ...options, cacheDir, queueLimit: 1, stallTimeoutMs: 60_000 },
      undefined,
      (line) => notices.push(line),
    );
    await engine.close();
  };
  await start();
  expect(notices).toEqual([
    expect.stringMatching(/^Measured how large keys and values get in ids drawn at random .*: \d+\.\d s\.$/),
  ]);
  await start();
  expect(notices).toHaveLength(1);
});

it("a calibration text that a model brings is used, or refused by name", async () => {
  const model = mkdtempSync(join(tmpdir(), "lambdatap-calibrated-"));
  for (const name of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    cpSync(join("models", "default", name), join(model, name));
  const own = join(model, "calibration.txt");
  writeFileSync(own, "Once upon a time there was a queen who had twelve sons.");
  expect((await startEngine({ model, kv: "q8", precision: "f32", window: 32 })).card.kv).toBe("q8");
  writeFileSync(own, "");
  await expect(startEngine({ model, kv: "q8" })).rejects.toThrow(`${own}: it is empty`);
});

it("keys and values that this model or machine cannot keep so are refused in a sentence", async () => {
  const refused = startEngine({ kv: "f16" });
  await expect(refused).rejects.toThrow(SetupError);
  await expect(refused).rejects.toThrow("those of --precision f32 are f32: take --kv f32 or auto");
  const model = goldenFolder("architectures/hostile/ok");
  const empty = mkdtempSync(join(tmpdir(), "lambdatap-refused-"));
  onTestFinished(() => rmSync(empty, { recursive: true }));
  await expect(startEngine({ model, kv: "q8", cacheDir: empty })).rejects.toThrow(
    "a multiple of 8, and this model's is 4",
  );
  // Nothing was compiled before.
  expect(readdirSync(empty)).toEqual([]);
});

it("the doctor counts the bytes that the cache takes, in 8 bits at most 0.27 of those in f32", async () => {
  const path = join("models", "default");
  const { shape } = await compileModel({ path, precision: "f32", cacheRoot: cacheDir });
  const geometry = { window: 256, sinks: 10 };
  const counted = async (kv: "f32" | "q8" | "q4") => {
    const options = { path, precision: "f32", kv, largestWindow: 4096, sinks: 10, quick: true } as const;
    const { needs } = await inspectModel(options);
    expect(needs?.kv).toBe(kv);
    using cache = new LambdaCache(shape, geometry, kv === "f32" ? "float32" : kv);
    const bytes = cache.bytesFor(1, geometry.window + geometry.sinks);
    // A cache has slots in groups.
    expect(bytes / (needs?.cacheBytes ?? 0)).toBeGreaterThanOrEqual(1);
    expect(bytes / (needs?.cacheBytes ?? 0)).toBeLessThan(1.03);
    return bytes;
  };
  const f32 = await counted("f32");
  expect((await counted("q8")) / f32).toBeLessThanOrEqual(0.27);
  expect((await counted("q4")) / f32).toBeLessThanOrEqual(0.15);
});
