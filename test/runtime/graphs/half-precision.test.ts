import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { hiddenIn } from "../../../models/attention/attention.js";
import { type CompiledModel, compileModel } from "../../../models/compile.js";
import { hook } from "../../../models/hooks.js";
import { Archive } from "../../../runtime/cache/archive.js";
import type { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { onCpu } from "../../bfloat16-on-cpu.js";
import {
  expectedTensors,
  goldenArchitectures,
  goldenFolder,
  goldenIds,
  goldenSequences,
  maxDifference,
} from "../../golden-tensors.js";
import { randomWeights } from "../../models/random-model.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

/**
 * Of the root mean square of the expected logits: that of the errors, and the largest error. Seen at most: 0.36 and 3.3 %
 * in f16, 2.9 and 21 % in bf16, whose mantissa is eight times coarser.
 */
const PRECISIONS = [
  { precision: "f16", rms: 0.006, largest: 0.05, run: (model: CompiledModel) => model },
  { precision: "bf16", rms: 0.045, largest: 0.35, run: onCpu },
] as const;

const rms = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value ** 2, 0) / values.length);

const errorsOf = (found: ArrayLike<number>, want: ArrayLike<number>) => {
  if (found.length !== want.length) throw new RangeError(`${found.length} values against ${want.length}`);
  return {
    rms: rms(Array.from(found, (value, i) => value - (want[i] ?? Number.NaN))) / rms(want),
    largest: maxDifference(found, want) / rms(want),
  };
};

/** Logits of every token, prefilled in chunks. */
const prefill = (runner: Runner, cache: LambdaCache, row: number, ids: readonly number[], chunk: number, origin = 0) =>
  Array.from({ length: Math.ceil(ids.length / chunk) }, (_, i) => {
    const part = ids.slice(i * chunk, (i + 1) * chunk);
    return [...runner.prefill(cache, row, part, [...part.keys()], { origin })];
  }).flat();

const decode = (runner: Runner, cache: LambdaCache, row: number, ids: readonly number[], origin = 0) =>
  ids.flatMap((id) => [...runner.decode(cache, row, [id], { origin })]);

describe.each(PRECISIONS)("in $precision", ({ precision, run, ...within }) => {
  const open = async (name: string, taps = false): Promise<Runner> => {
    const model = await compileModel({ path: goldenFolder(name), precision, cacheRoot });
    return new Runner(run(model), { window: 32, threads: 1, ...(taps ? { taps: new Set(model.hooks) } : {}) });
  };
  const expectNear = (found: ArrayLike<number>, want: ArrayLike<number>, about = ""): void => {
    const errors = errorsOf(found, want);
    expect(errors.rms, about).toBeLessThan(within.rms);
    expect(errors.largest, about).toBeLessThan(within.largest);
  };

  it.each(goldenArchitectures())(
    "$name has logits of transformers, prefilled and decoded",
    async ({ name, expectedFrom }) => {
      const expected = expectedTensors(`architectures/${expectedFrom}`);
      using runner = await open(`architectures/${name}`);
      for (const [i, ids] of goldenSequences(`architectures/${name}`).entries()) {
        const want = expected.get(`seq${i}.logits`)?.values ?? [];
        const cache = runner.openCache({ window: 64, sinks: 2 });
        expectNear(decode(runner, cache, cache.allocate(), ids), want);
        for (const chunk of [64, 7]) expectNear(prefill(runner, cache, cache.allocate(), ids, chunk), want);
        runner.closeCache(cache);
      }
    },
  );

  describe.each(["lm-infinite", "lm-infinite-alibi"])("%s", (name) => {
    const ids = goldenIds(name);
    const expected = expectedTensors(name);
    const golden = (tensor: string) => expected.get(tensor)?.values ?? new Float32Array();

    it.each([
      { tensor: "lambda_w32_g4", window: 32, sinks: 4 },
      { tensor: "lambda_w32_g10", window: 32, sinks: 10 },
      { tensor: "lambda_w48_g4", window: 48, sinks: 4 },
      { tensor: "vanilla", window: Number.POSITIVE_INFINITY, sinks: 0 },
    ])("has logits of the paper's own code: $tensor", async ({ tensor, ...geometry }) => {
      using runner = await open(name);
      const cache = runner.openCache(geometry);
      const row = cache.allocate();
      for (const chunk of [7, 32]) {
        expectNear(prefill(runner, cache, row, ids, chunk), golden(tensor));
        cache.release(row);
        cache.allocate();
      }
      const mixed = [
        ...prefill(runner, cache, row, ids.slice(0, 100), 13),
        ...decode(runner, cache, row, ids.slice(100, 180)),
        ...prefill(runner, cache, row, ids.slice(180), 31),
      ];
      expectNear(mixed, golden(tensor));
      runner.closeCache(cache);
    });

    it("decodes rows of different lengths together as it does each alone", async () => {
      using runner = await open(name);
      const cache = runner.openCache({ window: 32, sinks: 4 });
      const starts = [120, 2, 40];
      for (const start of starts) prefill(runner, cache, cache.allocate(), ids.slice(0, start), 32);
      const vocab = golden("lambda_w32_g4").length / ids.length;
      for (let step = 0; step < 40; step++) {
        const logits = runner.decode(
          cache,
          0,
          starts.map((start) => ids[start + step] ?? 0),
        );
        const want = starts.flatMap((start) => [
          ...golden("lambda_w32_g4").subarray((start + step) * vocab, (start + step + 1) * vocab),
        ]);
        expectNear(logits, want);
      }
      runner.closeCache(cache);
    });
  });

  it("is the same at position 0 and at position 10,000,000", async () => {
    const ids = goldenIds("lm-infinite").slice(0, 100);
    using runner = await open("lm-infinite");
    const cache = runner.openCache({ window: 32, sinks: 0 });
    const near = decode(runner, cache, cache.allocate(), ids);
    expectNear(decode(runner, cache, cache.allocate(), ids, 1e7), near);
    expectNear(prefill(runner, cache, cache.allocate(), ids, 20, 1e7), near);
    runner.closeCache(cache);
  });

  it("retrieves keys that have left the window", async () => {
    const ids = goldenIds("lm-infinite");
    const want = expectedTensors("lm-infinite").get("retrieve_k5_from1_w32_g4")?.values ?? new Float32Array();
    using runner = await open("lm-infinite");
    for (const [i, length] of [40, 41, 60, 100, 200, 400].entries()) {
      const geometry = { window: 32, sinks: 4 };
      const cache = runner.openCache(geometry);
      const row = cache.allocate();
      const { activations, shape } = runner.model;
      const retrieval = { k: 5, fromLayer: 1, distance: 16 };
      const archive = new Archive(shape, { ...geometry, retrieval, tokens: length, activations });
      for (let at = 0; at < length - 1; at += 32)
        runner.prefill(cache, row, ids.slice(at, Math.min(at + 32, length - 1)), [], { archive });
      const logits = runner.decode(cache, row, [ids[length - 1] ?? 0], { archive });
      // Rounding can make another key the fifth: 3.4 % in f16 and 5 % in bf16 where it does.
      expect(errorsOf(logits, want.subarray(i * 256, (i + 1) * 256)).rms).toBeLessThan(0.08);
      runner.closeArchive(archive);
      runner.closeCache(cache);
    }
  });

  it("has half the bytes of f32 in its cache and archive", async () => {
    const bytesIn = async (kept: "f32" | "f16" | "bf16") => {
      const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: kept, cacheRoot });
      using runner = new Runner(kept === "bf16" ? onCpu(model) : model, { window: 32, threads: 1 });
      const geometry = { window: 32, sinks: 4 };
      const cache = runner.openCache(geometry);
      cache.allocate();
      cache.reserve(0, 40);
      const retrieval = { k: 5, fromLayer: 0, distance: 16 };
      using archive = new Archive(model.shape, { ...geometry, retrieval, tokens: 64, activations: model.activations });
      archive.reserve(64);
      const hidden = 4 * (64 + 5); // what hides keys is f32
      const bytes = [cache.bytes, archive.bytes - hidden];
      runner.closeCache(cache);
      return bytes;
    };
    const whole = await bytesIn("f32");
    expect(await bytesIn(precision)).toEqual(whole.map((bytes) => bytes / 2));
  });

  it("taps residuals as f32, before edits, and edits them", async () => {
    const ids = goldenIds("lm-infinite").slice(0, 60);
    const expected = expectedTensors("lm-infinite");
    using runner = await open("lm-infinite", true);
    const width = runner.model.shape.hiddenSize;
    const cache = runner.openCache({ window: 32, sinks: 4 });
    const residuals: Residuals = new Map();
    runner.prefill(cache, cache.allocate(), ids.slice(0, 32), [], { residuals });
    for (const layer of [0, 1, 2])
      for (const [place, name] of [
        ["mid", hook.residMid(layer)],
        ["post", hook.residPost(layer)],
      ] as const) {
        const want = expected.get(`resid_${place}_${layer}`)?.values.subarray(0, 32 * width) ?? [];
        expect(errorsOf(residuals.get(name) ?? [], want).rms).toBeLessThan(within.rms);
      }
    const direction = randomWeights(width, 5);
    const edit = {
      encoder: new Float32Array(width),
      decoder: direction,
      normalisation: [1, 0, 0],
      parameters: [0, 0, 1, 0, 0, 3],
      cut: null,
    };
    const edited: Residuals = new Map();
    const edits = new Map([[hook.residPost(0), [edit]]]);
    runner.prefill(cache, cache.allocate(), ids.slice(0, 32), [], { residuals: edited, edits });
    const at = (each: Residuals) => each.get(hook.residPost(0)) ?? [];
    expect(errorsOf(at(edited), at(residuals)).rms).toBeLessThan(within.rms);
    const [before, after] = [residuals, edited].map((each) => each.get(hook.attnOut(1)) ?? new Float32Array());
    expect(errorsOf(after ?? [], before ?? []).rms).toBeGreaterThan(0.05);
    const plain = { ...edit, parameters: [0, 0, 1, 0, 0, 0] };
    const undone: Residuals = new Map();
    const nothing = new Map([[hook.residPost(0), [plain]]]);
    runner.prefill(cache, cache.allocate(), ids.slice(0, 32), [], { residuals: undone, edits: nothing });
    expect(errorsOf(undone.get(hook.attnOut(1)) ?? [], before ?? []).rms).toBeLessThan(within.rms);
    runner.closeCache(cache);
  });

  it.each(["llama", "gpt2"])("maps directions to logits in f32: %s", async (name) => {
    const path = goldenFolder(`architectures/${name}`);
    using exact = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), { window: 32, threads: 1 });
    const direction = randomWeights(exact.model.shape.hiddenSize, 3);
    using runner = new Runner(await compileModel({ path, precision, cacheRoot }), { window: 32, threads: 1 });
    expect(errorsOf(runner.lens(direction), exact.lens(direction)).rms).toBeLessThan(precision === "f16" ? 3e-4 : 3e-3);
  });
});

it.each(["float32", "float16", "bfloat16"] as const)("what hides a key is a finite number of %s", (type) => {
  using tensor = Tensor.zeros(type, [1]);
  tensor.write([hiddenIn(type)]);
  const [hidden = 0] = tensor.read(new Float32Array(1));
  expect(hidden).toBeLessThan(-60_000);
  expect(hidden).toBeGreaterThan(Number.NEGATIVE_INFINITY);
});

it("rows in f16 are zeroed for their next owner", async () => {
  const ids = goldenIds("lm-infinite").slice(0, 40);
  const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f16", cacheRoot });
  using runner = new Runner(model, { window: 32, threads: 1 });
  const cache = runner.openCache({ window: 32, sinks: 4 });
  const row = cache.allocate();
  const first = decode(runner, cache, row, ids);
  for (const tensor of [...cache.keys, ...cache.values]) tensor.fill(Number.NaN);
  for (const tensor of cache.sinkKeys) tensor?.fill(Number.NaN);
  expect(runner.decode(cache, row, [1]).some(Number.isNaN)).toBe(true);
  cache.release(row);
  expect(decode(runner, cache, cache.allocate(), ids)).toEqual(first);
  runner.closeCache(cache);
});
