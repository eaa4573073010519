import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileSae } from "../../../models/sae/compile-sae.js";
import { rowNorms } from "../../../models/sae/folding.js";
import { openSae } from "../../../models/sae/formats/index.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import type { SaePrecision } from "../../../models/sae/sae-matrices.js";
import type { FeatureReader } from "../../../runtime/saes/feature-reader.js";
import type { RowReading } from "../../../runtime/saes/row-reading.js";
import type { SaeReader } from "../../../runtime/saes/sae-reader.js";
import { randomSae } from "../../bench/random-sae.js";
import { maxDifference } from "../../golden-tensors.js";
import { expected, expectedIntegers, GOLDEN, goldenSaes } from "../../models/sae/golden-sae.js";
import { readFeatures } from "../../models/sae/reference/features.js";

import { readAll } from "./read-all.js";
import { EVERYTHING, expectSame, possible, rowOf } from "./same-reading.js";

/** A reader of features, and how it is made. */
type ReaderClass = new (...made: ConstructorParameters<typeof SaeReader>) => FeatureReader;

const folders = ["saelens", "sparsify", "dictionary_learning", "gemma-scope"]
  .flatMap((format) => goldenSaes(join(GOLDEN, format)))
  .filter((folder) => !folder.includes("AutoEncoder-legacy-file"));

/** Of a width that is no multiple of a block or slice; every second feature is active, as in a random SAE. */
const WIDE = randomSae(40, 5000, 1);
export const noise = (rows: number, width: number) =>
  Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i * 1.7) + Math.cos(i ** 1.5));

/** Tests that each reader of features passes. */
export function readerContract(Reader: ReaderClass): void {
  const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
  const readers: FeatureReader[] = [];
  afterAll(() => {
    for (const reader of readers) reader[Symbol.dispose]();
    rmSync(cacheRoot, { recursive: true });
  });

  async function readerOf(
    description: SaeDescription,
    precision: SaePrecision = "f32",
    threads = 2,
  ): Promise<FeatureReader> {
    const reader = new Reader(await compileSae({ description, precision, cacheRoot }), { threads, spin: false });
    readers.push(reader);
    return reader;
  }

  describe.each(folders)("features read in native code (%s)", (folder) => {
    const x = expected(folder, "x");
    let sae: SaeDescription;
    beforeAll(async () => {
      sae = await openSae(folder);
    });

    it("are those of the float64 reference to 1e-5, for each activation, one row at a time or many", async () => {
      const reader = await readerOf(sae);
      for (const activation of possible(sae)) {
        const together = readAll(reader, x, activation, EVERYTHING);
        for (const [row, want] of readFeatures(sae, x, activation).entries()) {
          const values = rowOf(x, row, sae.dIn);
          const [alone] = readAll(reader, values, activation, EVERYTHING);
          for (const got of [together[row], alone]) if (got) expectSame(got, want, values, 1e-5);
          expect(together[row]?.epsLbo ?? 0).toBeCloseTo(want.epsLbo ?? 0, 6);
        }
      }
    });

    it("come with 8 bits within 2.5 % of the row's largest", async () => {
      const reader = await readerOf(sae, "q8");
      const before = {
        ...sae,
        activation: sae.activation.kind === "top-k" ? ({ kind: "relu" } as const) : sae.activation,
      };
      const own = readFeatures(before, x);
      for (const activation of possible(sae))
        for (const [row, { indices, values }] of readAll(reader, x, activation, EVERYTHING).entries()) {
          const all = new Map([...(own[row]?.indices ?? [])].map((f, i) => [f, own[row]?.values[i] ?? 0]));
          const differences = [...indices].map((feature, i) =>
            Math.abs((values[i] ?? 0) - (all.get(feature) ?? values[i] ?? 0)),
          );
          expect(Math.max(0, ...differences)).toBeLessThan(0.025 * Math.max(...all.values()));
        }
    });
  });

  describe.each(["init", "init-unit-norm", "general", "general-unit-norm"])(
    "top-AFA in native code, against its authors' code (%s)",
    (name) => {
      const folder = join("test", "golden", "top-afa", name);
      const checkpoint = join(folder, "checkpoints", "blocks.1.hook_resid_pre_256_topafa_0_0.03125_20000");
      const H = 256;
      /** The square of its norm underflows in the authors' float32, and which of equal features comes first is arbitrary. */
      const UNDERFLOWING = 2;
      const golden = {
        k: expectedIntegers(folder, "k"),
        least: expectedIntegers(folder, "k_min"),
        most: expectedIntegers(folder, "k_max"),
        kept: expected(folder, "feature_acts"),
        active: expected(folder, "acts_relu"),
        z: expected(folder, "norm_z"),
      };
      let sae: SaeDescription;
      let readings: RowReading[];
      beforeAll(async () => {
        sae = await openSae(checkpoint);
        readings = readAll(await readerOf(sae), expected(folder, "x"), { kind: "native" }, H);
      });

      it("cuts where they cut, and keeps what they keep", () => {
        const norms = rowNorms(sae.wDec, H);
        let compared = 0;
        for (const [row, { l0, indices, values }] of readings.entries()) {
          const active = rowOf(golden.active, row, H);
          const above = active.filter((value) => value > 0).length;
          // k counts places that hold 0, too.
          expect(l0).toBeGreaterThanOrEqual(Math.min(golden.least[row] ?? Number.NaN, above));
          expect(l0).toBeLessThanOrEqual(golden.most[row] ?? Number.NaN);
          if (row === UNDERFLOWING) continue;
          const wanted = rowOf(golden.kept, row, H);
          const sameCut = l0 === wanted.filter((value) => value > 0).length;
          if (sameCut) compared++;
          const found = new Map([...indices].map((feature, i) => [feature, values[i] ?? 0]));
          const wrong = [...wanted.entries()].filter(([feature, right]) => {
            const value = found.get(feature) ?? 0;
            if (!sameCut && value > 0 !== right > 0)
              return (active[feature] ?? 0) * (norms[feature] ?? 0) >= 3.3e-3 * (golden.z[row] ?? 0);
            return value > 0 !== right > 0 || Math.abs(value - right) > 1e-4 * Math.max(...wanted);
          });
          expect(wrong, `row ${row}`).toEqual([]);
        }
        expect(compared).toBeGreaterThan(50);
      });

      it("reports their norms and errors", () => {
        const of = (tensor: string) => expected(folder, tensor);
        const [f, mse, x] = [of("norm_f"), of("mse"), of("x")];
        for (const [row, reading] of readings.entries()) {
          if (row === UNDERFLOWING) continue;
          const at = (values: Float32Array) => values[row] ?? Number.NaN;
          const square = rowOf(x, row, 32).reduce((sum, value) => sum + value ** 2, 0) / 32;
          expect(Math.abs(reading.z - at(golden.z))).toBeLessThanOrEqual(1e-4 * at(golden.z));
          expect(Math.abs(reading.f - at(f))).toBeLessThanOrEqual(1e-4 * Math.max(at(f), 1e-3 * reading.z));
          expect(Math.abs(reading.mse - at(mse))).toBeLessThanOrEqual(1e-4 * Math.max(at(mse), square));
        }
      });
    },
  );

  describe("an SAE of thousands of features", () => {
    const x = noise(300, WIDE.dIn);

    it.each(["f32", "q8"] as const)("reads a prompt as it reads its tokens one by one (%s)", async (precision) => {
      const reader = await readerOf(WIDE, precision);
      for (const activation of [{ kind: "top-afa" }, { kind: "top-k", k: 20 }] as const) {
        const together = readAll(reader, x, activation, EVERYTHING);
        expect(together).toHaveLength(300);
        for (const row of [0, 1, 127, 128, 255, 256, 299]) {
          const [alone] = readAll(reader, rowOf(x, row, WIDE.dIn), activation, EVERYTHING);
          const got = together[row];
          if (alone && got) expectSame(got, { k: 0, ...alone }, rowOf(x, row, WIDE.dIn), 1e-5);
        }
      }
    });

    it("reads what the reference reads, in blocks of any number of rows", async () => {
      const reader = await readerOf(WIDE);
      for (const rows of [1, 2, 3, 5, 9, 17, 33]) {
        const some = x.subarray(0, rows * WIDE.dIn);
        const want = readFeatures(WIDE, some);
        for (const [row, got] of readAll(reader, some, { kind: "native" }, EVERYTHING).entries())
          expectSame(got, want[row]!, rowOf(x, row, WIDE.dIn), 1e-5);
      }
    });

    it("has with 8 bits another activation by 1.5 % of the largest, |f| by 0.2 %, mse by 1 %, and l0 by 2 %", async () => {
      const [exact, coarse] = [await readerOf(WIDE), await readerOf(WIDE, "q8")];
      const [want, got] = [exact, coarse].map((reader) => readAll(reader, x, { kind: "top-afa" }, EVERYTHING));
      for (const [row, reading] of (got ?? []).entries()) {
        const right = want?.[row];
        if (!right) continue;
        const found = new Map([...reading.indices].map((feature, i) => [feature, reading.values[i] ?? 0]));
        const differences = Array.from(right.indices, (feature, i) =>
          Math.abs((right.values[i] ?? 0) - (found.get(feature) ?? right.values[i] ?? 0)),
        );
        expect(Math.max(...differences)).toBeLessThan(0.015 * (right.values[0] ?? 0));
        expect(reading.z).toBe(right.z);
        expect(Math.abs(reading.f - right.f)).toBeLessThan(2e-3 * right.f);
        expect(Math.abs(reading.mse - right.mse)).toBeLessThan(0.01 * right.mse);
        expect(Math.abs(reading.l0 - right.l0)).toBeLessThan(0.02 * right.l0);
      }
    });

    it("tells eps_lbo with 8 bits only where they do not change it", async () => {
      const [exact, coarse] = [await readerOf(WIDE), await readerOf(WIDE, "q8")];
      const told = [0, 0];
      for (const activation of [{ kind: "top-afa" }, { kind: "top-k", k: 5 }, { kind: "top-k", k: 300 }] as const) {
        const want = readAll(exact, x, activation, 0);
        for (const [row, { epsLbo }] of readAll(coarse, x, activation, 0).entries()) {
          const right = want[row];
          if (!right) continue;
          told[epsLbo === null ? 0 : 1]! += 1;
          if (epsLbo === null) expect(Math.abs(right.z ** 2 / right.f ** 2 - 1)).toBeLessThan(0.06);
          else expect(Math.abs(epsLbo / (right.epsLbo ?? 0) - 1)).toBeLessThan(0.1);
        }
      }
      expect(Math.min(...told)).toBeGreaterThan(0);
    });

    it("gives the strongest features asked for, by what they add, of equal ones the lowest", async () => {
      const reader = await readerOf({
        ...WIDE,
        wDec: WIDE.wDec.map((value, i) => value * (1 + (Math.floor(i / 40) % 3))),
      });
      const [all] = readAll(reader, rowOf(x, 0, 40), { kind: "top-afa" }, EVERYTHING);
      const norms = reader.sae.decoderNorms;
      const sizes = Array.from(all?.indices ?? [], (feature, i) => (all?.values[i] ?? 0) * (norms[feature] ?? 0));
      expect(sizes.length).toBeGreaterThan(40);
      for (let i = 1; i < sizes.length; i++) expect(sizes[i]! / sizes[i - 1]!).toBeLessThan(1 + 1e-6);
      for (const top of [0, 1, 8, 40]) {
        const [some] = readAll(reader, rowOf(x, 0, 40), { kind: "top-afa" }, top);
        expect(some?.l0).toBe(all?.l0);
        expect([...(some?.indices ?? [])]).toEqual([...(all?.indices ?? [])].slice(0, top));
      }
      const same = await readerOf({ ...WIDE, wEnc: WIDE.wEnc.map((_, i) => WIDE.wEnc[i - (i % 5000)] ?? 0) });
      const equal = [1, -1].map(
        (sign) =>
          readAll(
            same,
            rowOf(x, 0, 40).map((v) => sign * v),
            { kind: "native" },
            4,
          )[0],
      );
      expect(equal.map((reading) => [...(reading?.indices ?? [])])).toContainEqual([0, 1, 2, 3]);
    });

    it("lists of equally strong features the lowest, however they were cut", async () => {
      // A third each of activations 1, 2 and 4, whose decoder rows make up for it.
      const scale = (feature: number) => 2 ** (feature % 3);
      const reader = await readerOf({
        ...WIDE,
        wEnc: WIDE.wEnc.map((_, i) => (WIDE.wEnc[i - (i % 5000)] ?? 0) * scale(i % 5000)),
        wDec: WIDE.wDec.map((_, i) => (i % 40 === 0 ? 1 / scale(Math.floor(i / 40)) : 0)),
      });
      const k = 2000; // all of activation 4, and the lowest of activation 2
      const active = [1, -1].map((sign) => rowOf(x, 0, 40).map((value) => sign * value));
      const lists = active.map((row) => [...(readAll(reader, row, { kind: "top-k", k }, 40)[0]?.indices ?? [])]);
      const kept = Array.from({ length: 60 }, (_, feature) => feature).filter((feature) => feature % 3 !== 0);
      expect(lists).toContainEqual(kept);
    });

    it("reads the rows that are asked for, each as it asks", async () => {
      for (const precision of ["f32", "q8"] as const) {
        const reader = await readerOf(WIDE, precision);
        const choices = [
          { kind: "top-afa" },
          { kind: "top-k", k: 20 },
          { kind: "native" },
          { kind: "top-k", k: 3 },
        ] as const;
        const asked = [7, 3, 4, 5, 200, 0, 7, 150, 151, 152, 90, 299].map((row, i) => ({
          row,
          activation: choices[i % 4] ?? choices[0],
          top: (i * 5) % 13,
        }));
        const readings = reader.start(x, asked)();
        expect(readings).toHaveLength(asked.length);
        for (const [i, { row, activation, top }] of asked.entries()) {
          const got = readings[i]!;
          const [alone] = readAll(reader, rowOf(x, row, 40), activation, EVERYTHING);
          const [want] = readAll(reader, rowOf(x, row, 40), activation, top);
          expect([...got.indices]).toEqual([...(want?.indices ?? [])]);
          expect(got.indices).toHaveLength(Math.min(top, alone?.l0 ?? 0));
          expect(maxDifference(got.values, want?.values ?? [])).toBeLessThan(1e-5 * (alone?.values[0] ?? 0));
          for (const scalar of ["l0", "z", "f", "mse"] as const)
            expect(Math.abs(got[scalar] / (want?.[scalar] ?? 0) - 1)).toBeLessThan(1e-5);
        }
      }
    });

    it("sums more rows than are gathered at a time", async () => {
      const sae = randomSae(1024, 2400, 2);
      const x = noise(1, 1024);
      const everyOther: SaeDescription = { ...sae, activation: { kind: "relu" } };
      const reader = await readerOf(everyOther);
      const [want] = readFeatures(everyOther, x);
      const [got] = readAll(reader, x, { kind: "top-k", k: 1150 }, EVERYTHING);
      expect(want?.l0).toBeGreaterThan(1150);
      expect(got?.l0).toBe(1150);
      const [right] = readFeatures(everyOther, x, { kind: "top-k", k: 1150 });
      if (got && right) expectSame(got, right, x, 1e-5);
    });
  });

  describe("rows that are no residuals", () => {
    it.each(["f32", "q8"] as const)(
      "have no features where they hold NaN, and leave others alone (%s)",
      async (precision) => {
        const reader = await readerOf(WIDE, precision);
        const x = noise(3, 40);
        const [first, , last] = readAll(reader, x, { kind: "native" }, 8);
        x[45] = Number.NaN;
        for (const rows of [x, Float32Array.from([...x, ...noise(100, 40)])]) {
          const [before, broken, after] = readAll(reader, rows, { kind: "native" }, 8);
          expect(broken).toMatchObject({ l0: 0, z: Number.NaN, f: 0, epsLbo: null, mse: Number.NaN });
          expect([broken?.indices.length, broken?.values.length]).toEqual([0, 0]);
          expect(before?.indices).toEqual(first?.indices);
          expect(after?.indices).toEqual(last?.indices);
        }
        expect(readAll(reader, rowOf(x, 0, 40), { kind: "native" }, 8)[0]?.indices).toEqual(first?.indices);
      },
    );

    it("are zeros, or too large for float32", async () => {
      const reader = await readerOf({ ...WIDE, normalisation: "none" });
      expect(readAll(reader, new Float32Array(40), { kind: "native" }, 8)).toMatchObject([
        { l0: 0, z: 0, f: 0, epsLbo: null, mse: 0 },
      ]);
      const [huge] = readAll(
        reader,
        noise(1, 40).map((value) => value * 1e38),
        { kind: "native" },
        8,
      );
      expect(huge?.indices.length).toBe(huge?.values.length);
    });

    it("are refused where they are not whole rows, or the question makes no sense", async () => {
      const reader = await readerOf(WIDE);
      expect(readAll(reader, new Float32Array(), { kind: "native" }, 8)).toEqual([]);
      expect(() => readAll(reader, new Float32Array(41), { kind: "native" }, 8)).toThrow(RangeError);
      for (const row of [-1, 2, 0.5]) {
        const asked = [{ row, activation: { kind: "native" } as const, top: 8 }];
        expect(() => reader.start(new Float32Array(80), asked)).toThrow(/there is no row/);
      }
      expect(() => readAll(reader, new Float32Array(40), { kind: "top-k", k: 5001 }, 8)).toThrow(RangeError);
      const transcoder = await readerOf(await openSae(join(GOLDEN, "saelens", "transcoder")));
      expect(() => readAll(transcoder, new Float32Array(32), { kind: "top-afa" }, 8)).toThrow(/is a transcoder/);
    });
  });

  describe("the vectors of a feature", () => {
    it.each(["f32", "q8"] as const)("are exact columns and rows (%s)", async (precision) => {
      const reader = await readerOf(WIDE, precision);
      for (const feature of [0, 1234, 4999]) {
        const column = Float32Array.from({ length: 40 }, (_, i) => WIDE.wEnc[i * 5000 + feature] ?? 0);
        expect(reader.vectors.encoderColumn(feature)).toEqual(column);
        expect(reader.vectors.decoderRow(feature)).toEqual(rowOf(WIDE.wDec, feature, 40));
      }
      for (const feature of [-1, 5000, 0.5]) {
        expect(() => reader.vectors.encoderColumn(feature)).toThrow(RangeError);
        expect(() => reader.vectors.decoderRow(feature)).toThrow(RangeError);
        expect(() => reader.vectors.nearest(feature, 3)).toThrow(RangeError);
      }
    });

    it("have neighbours by the cosine of decoder rows, without itself and rows of length 0", async () => {
      const wDec = WIDE.wDec.map((value, i) => (i < 40 ? 0 : i < 80 ? 3 * value : value));
      wDec.set(
        rowOf(wDec, 1, 40).map((value) => value / 6),
        7 * 40,
      );
      const reader = await readerOf({ ...WIDE, wDec });
      const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
      const own = rowOf(wDec, 1, 40);
      const cosines = Array.from({ length: 5000 }, (_, other) => {
        const row = rowOf(wDec, other, 40);
        return { feature: other, cosine: dot(own, row) / Math.sqrt(dot(own, own) * dot(row, row)) };
      }).filter(({ feature, cosine }) => feature !== 1 && !Number.isNaN(cosine));
      const want = cosines.sort((a, b) => b.cosine - a.cosine).slice(0, 10);
      const got = reader.vectors.nearest(1, 10);
      expect(got.map(({ feature }) => feature)).toEqual(want.map(({ feature }) => feature));
      expect(got[0]?.feature).toBe(7);
      const of = (list: typeof want) => list.map(({ cosine }) => cosine);
      expect(maxDifference(of(got), of(want))).toBeLessThan(1e-5);
      expect(reader.vectors.nearest(1, EVERYTHING)).toHaveLength(4998);
      expect(reader.vectors.nearest(0, 5)).toEqual([]);
    });
  });

  describe("two thousand reads", () => {
    it("take no more memory than three hundred", async () => {
      const reader = await readerOf(WIDE);
      const x = noise(64, 40);
      const resident: number[] = [];
      for (let i = 0; i < 2300; i++) {
        const rows = i % 100 === 0 ? 64 : (i % 3) + 1;
        readAll(
          reader,
          x.subarray(0, rows * 40),
          i % 2 === 0 ? { kind: "native" } : { kind: "top-k", k: (i % 1000) + 1 },
          8,
        );
        if (i % 20 === 0) await new Promise(setImmediate);
        if (i === 299 || i === 2299) resident.push(process.memoryUsage().rss);
      }
      const [before = 0, after = 0] = resident;
      expect(after - before).toBeLessThan(32 << 20);
    });
  });
}
