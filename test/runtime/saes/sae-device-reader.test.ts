import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { hook } from "../../../models/hooks.js";
import type { ChosenActivation } from "../../../models/sae/chosen-activation.js";
import { compileSae } from "../../../models/sae/compile-sae.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { CPU, type Device } from "../../../runtime/ort/device.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { AttachedSaes } from "../../../runtime/saes/attached-saes.js";
import { SaeDeviceReader } from "../../../runtime/saes/sae-device-reader.js";
import { randomSae } from "../../bench/random-sae.js";
import { readFeatures } from "../../models/sae/reference/features.js";
import { openSmallLlama } from "../../models/sae/small-llama.js";
import { openEmbedded } from "../../models/tokenizer/opened.js";
import { FAR_CPU } from "../ort/far-cpu.js";
import { readAll, startAll } from "./read-all.js";
import { noise, readerContract } from "./reader-contract.js";
import { ACTIVATIONS, EVERYTHING, expectSame, rowOf } from "./same-reading.js";

readerContract(SaeDeviceReader);

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
const readers: SaeDeviceReader[] = [];
afterAll(() => {
  for (const reader of readers) reader[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

async function readerOf(description: SaeDescription, device: Device = CPU): Promise<SaeDeviceReader> {
  const compiled = await compileSae({ description, precision: "f32", cacheRoot });
  const reader = new SaeDeviceReader(compiled, { threads: 2, spin: false, device, replays: true });
  readers.push(reader);
  return reader;
}

async function expectReference(sae: SaeDescription, x: Float32Array): Promise<void> {
  const reader = await readerOf(sae);
  for (const activation of ACTIVATIONS) {
    if (activation.kind === "top-k" && activation.k > sae.dSae) continue;
    const got = readAll(reader, x, activation, EVERYTHING);
    for (const [row, want] of readFeatures(sae, x, activation).entries())
      expectSame(got[row]!, want, rowOf(x, row, sae.dIn), 1e-5);
  }
}

describe("residuals in a tensor", () => {
  it.each([1, 3, 128, 300])("are read like those of an array (%i rows)", async (rows) => {
    const sae = randomSae(24, 640, 3);
    const reader = await readerOf(sae);
    const x = noise(rows, 24);
    using tensor = Tensor.zeros("float32", [rows, 24]);
    tensor.write(x);
    for (const activation of ACTIVATIONS) {
      const want = readAll(reader, x, activation, 5);
      expect(want).toHaveLength(rows);
      expect(readAll(reader, tensor, activation, 5)).toEqual(want);
    }
  });

  it("are refused where they are not whole rows", async () => {
    const reader = await readerOf(randomSae(24, 640, 3));
    using tensor = Tensor.zeros("float32", [2, 25]);
    expect(() => readAll(reader, tensor, { kind: "native" }, 8)).toThrow(RangeError);
  });
});

describe("rows that were read before", () => {
  it("do not come into readings of fewer", async () => {
    const reader = await readerOf(randomSae(24, 640, 3));
    const x = noise(3, 24);
    const want = readAll(reader, x, { kind: "top-afa" }, 5);
    using broken = Tensor.zeros("float32", [4, 24]);
    broken.write(new Float32Array(96).fill(Number.NaN));
    expect(readAll(reader, broken, { kind: "top-afa" }, 5)).toMatchObject(Array(4).fill({ z: Number.NaN, l0: 0 }));
    expect(readAll(reader, x, { kind: "top-afa" }, 5)).toEqual(want);
  });
});

describe("readers that are begun together", () => {
  it("read as each would alone, prompts of several blocks too", async () => {
    const asked = await Promise.all(
      [3, 4].map(async (seed, i) => ({
        reader: await readerOf(randomSae(24, 640, seed)),
        x: noise([300, 2][i] ?? 0, 24),
      })),
    );
    const want = asked.map(({ reader, x }) => readAll(reader, x, { kind: "native" }, 5));
    for (const { reader, x } of asked)
      readAll(
        reader,
        x.map((value) => -value),
        { kind: "native" },
        5,
      );
    const begun = asked.map(({ reader, x }) => startAll(reader, x, { kind: "native" }, 5));
    expect(begun.map((readings) => readings())).toEqual(want);
  });
});

describe("where runs are recorded", () => {
  const NATIVE = { kind: "native" } as const;
  /** The reading of some rows, and the numbers under which it was recorded. */
  async function recording(sae: SaeDescription) {
    const numbers: (number | null)[] = [];
    const runOptions = (recording: number | null) => {
      numbers.push(recording);
      return null;
    };
    const reader = await readerOf(sae, { ...FAR_CPU, runOptions });
    return (x: Float32Array, activation: ChosenActivation, top = 8) => {
      numbers.length = 0;
      readAll(reader, x, activation, top);
      return [...numbers];
    };
  }

  it("a reading is replayed only where rows, activation, places and length of the list are the same", async () => {
    const numbers = await recording(randomSae(24, 640, 3));
    const asked = [1, 2, 8].flatMap((rows) =>
      ([NATIVE, { kind: "top-afa" }, { kind: "top-k", k: 3 }, { kind: "top-k", k: 4 }] as const).flatMap((activation) =>
        [8, 32].map((top) => () => numbers(noise(rows, 24), activation, top)),
      ),
    );
    // Not before it comes again and again.
    for (let i = 0; i < 2; i++) expect(new Set(asked.flatMap((ask) => ask()))).toEqual(new Set([null]));
    const first = asked.map((ask) => ask());
    expect(new Set(first.flat()).size).toBe(asked.length);
    expect(first.flat()).not.toContain(null);
    expect(asked.map((ask) => ask())).toEqual(first);
    // Padded to 8, and cut to 5 of a list of 8.
    expect(numbers(noise(5, 24), NATIVE, 5)).toEqual(numbers(noise(8, 24), NATIVE));
  });

  it("a cut beyond the first places is another recording, which is used from then on", async () => {
    const [dIn, dSae] = [16, 9000];
    const sae = randomSae(dIn, dSae, 5);
    const weak = { ...sae, wEnc: sae.wEnc.map((value) => value / 100), bEnc: new Float32Array(dSae).fill(1e-3) };
    const numbers = await recording(weak);
    expect(numbers(noise(1, dIn), NATIVE)).toEqual([null, null]);
    expect(numbers(noise(1, dIn), NATIVE)).toEqual([null]);
    expect(numbers(noise(1, dIn), NATIVE)).toEqual([1]);
    expect(numbers(noise(1, dIn), NATIVE)).toEqual([1]);
  });

  it("readings of many rows are not, nor any after hundreds", async () => {
    const numbers = await recording(randomSae(24, 640, 3));
    const thrice = (rows: number, activation: ChosenActivation) =>
      [1, 2, 3].map(() => numbers(noise(rows, 24), activation)).at(-1);
    expect(thrice(9, NATIVE)).toEqual([null]);
    expect(thrice(130, NATIVE)).toEqual([null, 1]);
    for (let k = 1; k <= 255; k++) expect(numbers(noise(1, 24), { kind: "top-k", k })).toEqual([null]);
    for (let k = 1; k <= 255; k++) expect(thrice(1, { kind: "top-k", k })).toEqual([k + 1]);
    expect(thrice(1, { kind: "top-k", k: 256 })).toEqual([null]);
    expect(numbers(noise(1, 24), { kind: "top-k", k: 255 })).toEqual([256]);
  });

  it("lists too long to be kept are made again, and right", async () => {
    const reader = await readerOf(randomSae(8, 40_000, 2), FAR_CPU);
    const x = noise(40, 8);
    const want = readAll(reader, x, NATIVE, 8);
    for (const top of [20_000, 40_000, 10_000, 5_000]) {
      expect(readAll(reader, x, NATIVE, top).map(({ l0 }) => l0)).toEqual(want.map(({ l0 }) => l0));
    }
    expect(readAll(reader, x, NATIVE, 8)).toEqual(want);
  });
});

describe("widths of an SAE", () => {
  it.each([1, 2, 127, 128, 129])("may be %i", async (dSae) => {
    const sae = randomSae(8, dSae, 4);
    await expectReference(sae, noise(20, 8));
    await expectReference({ ...sae, normalisation: "none", activation: { kind: "relu" } }, noise(20, 8));
  });

  it("are refused where numbers of features are no float32", async () => {
    const { sae } = await readerOf(randomSae(8, 2, 4));
    const description = { ...sae.description, dSae: 2 ** 24 + 1 };
    expect(() => new SaeDeviceReader({ ...sae, description }, { threads: 1 })).toThrow(/16777217 features/);
  });
});

describe("a cut beyond the places that are put in order at first", () => {
  const [dIn, dSae] = [16, 9000];
  const sae = randomSae(dIn, dSae, 5);
  const weak = { ...sae, wEnc: sae.wEnc.map((value) => value / 100), bEnc: new Float32Array(dSae).fill(1e-3) };

  it("is found, whether more features make up the norm or all together do not", async () => {
    for (const scale of [1, 30]) {
      const some = { ...weak, wEnc: weak.wEnc.map((value) => value * scale), bEnc: weak.bEnc.map((v) => v * scale) };
      const x = noise(6, dIn);
      const [first] = readFeatures(some, x);
      expect(first?.l0).toBeGreaterThan(4096);
      await expectReference(some, x);
    }
  });

  it("does not change readings of rows that need fewer", async () => {
    const reader = await readerOf({ ...weak, normalisation: "none" });
    const [near, far] = [0.01, 1].map((scale) => noise(1, dIn).map((value) => scale * value));
    const read = (x: Float32Array = new Float32Array()) => readAll(reader, x, { kind: "native" }, 8)[0];
    const before = read(near);
    expect(before?.l0).toBeLessThan(4096);
    expect(read(far)?.l0).toBeGreaterThan(4096);
    expect(read(near)).toEqual(before);
  });
});

describe("thresholds", () => {
  it("below zero let nothing below zero pass", async () => {
    const threshold = Float32Array.from({ length: 300 }, (_, feature) => (feature % 3) - 1);
    const sae: SaeDescription = { ...randomSae(16, 300, 7), activation: { kind: "jumprelu", threshold } };
    await expectReference(sae, noise(4, 16));
  });
});

describe("rows at the limits of float32", () => {
  const sae: SaeDescription = { ...randomSae(16, 300, 6), normalisation: "none" };

  it("have all features where the forced end is nearest to their norm", async () => {
    const loud = { ...sae, wEnc: sae.wEnc.map((value) => 100 * value) };
    const x = noise(4, 16).map((value) => 2000 * value);
    expect(readFeatures(loud, x).some(({ k, z }) => k === 300 && z < 1e4)).toBe(true);
    await expectReference(loud, x);
    const everyOne = { ...sae, bEnc: new Float32Array(300).fill(1e6) };
    expect(readFeatures(everyOne, x)[0]?.l0).toBe(300);
    await expectReference(everyOne, x);
  });

  it("keep their digits where they are far from zero and normalised", async () => {
    const x = noise(4, 16).map((value) => 30_000 + value);
    await expectReference({ ...sae, normalisation: "layer_norm" }, x);
  });

  it("are not read where the square of their norm is too large, and leave others alone", async () => {
    const reader = await readerOf(sae);
    const x = noise(3, 16);
    const [first, , last] = readAll(reader, x, { kind: "top-afa" }, 8);
    for (let i = 16; i < 32; i++) x[i]! *= 1e30;
    const [before, broken, after] = readAll(reader, x, { kind: "top-afa" }, 8);
    expect(broken).toMatchObject({ l0: 0, z: Number.POSITIVE_INFINITY, f: 0, epsLbo: null, mse: Number.NaN });
    expect([before, after]).toEqual([first, last]);
  });
});

describe("the embedded model's SAEs, on a page of a book", () => {
  const MODEL = join("models", "default");
  const layers = [1, 3, 5];
  const saes = layers.map((layer) => `blocks.${layer}.hook_resid_post`);
  const residuals: Residuals = new Map();
  const attached: AttachedSaes[] = [];
  beforeAll(async () => {
    const book = readFileSync(join("test", "data", "the-wind-in-the-willows.txt"), "utf8");
    const ids = await (await openEmbedded()).encode(book.slice(90_000, 92_000));
    const run = openSmallLlama(join(MODEL, "model.safetensors"))(ids.slice(0, 200));
    for (const layer of layers) residuals.set(hook.residPost(layer), run.residuals[layer] ?? new Float32Array());
    const model = await compileModel({ path: MODEL, precision: "f32", cacheRoot });
    const choice = { folders: undefined, precision: "f32", anyModel: false } as const;
    const options = { choice, model, folder: MODEL, names: ["default"], cacheRoot, threads: 2, spin: false };
    attached.push(await AttachedSaes.attach(options), await AttachedSaes.attach({ ...options, device: FAR_CPU }));
  });
  afterAll(() => {
    for (const each of attached) each[Symbol.dispose]();
  });

  it.each(ACTIVATIONS)("are read by a graph as on the host ($kind)", (activation) => {
    const [host, graph] = attached.map((each) =>
      each.read({ saes, top: 1024, activation, prompt: true }, residuals).flat(),
    );
    expect(host).toHaveLength(600);
    for (const [i, want] of (host ?? []).entries()) {
      const x = rowOf(residuals.get(hook.residPost(layers[i % 3] ?? 0)) ?? new Float32Array(), Math.floor(i / 3), 192);
      const got = graph?.[i];
      expect(got?.sae).toBe(want.sae);
      if (got) expectSame(got, { k: 0, ...want }, x, 1e-5);
      expect(got?.l0).toBe(want.l0);
    }
  });

  it("describe and edit their features alike", () => {
    const [host, graph] = attached.map((each) => each.vectors(saes[0] ?? ""));
    expect(graph?.decoderRow(7)).toEqual(host?.decoderRow(7));
    expect(graph?.encoderColumn(7)).toEqual(host?.encoderColumn(7));
    expect(graph?.nearest(7, 5)).toEqual(host?.nearest(7, 5));
  });
});
