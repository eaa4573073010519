import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileSae } from "../../../models/sae/compile-sae.js";
import { openSae } from "../../../models/sae/formats/index.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import { type CodedRows, SaeCoder } from "../../../runtime/saes/sae-coder.js";
import { randomSae } from "../../bench/random-sae.js";
import { expected, GOLDEN, goldenSaes } from "../../models/sae/golden-sae.js";
import { readFeatures } from "../../models/sae/reference/features.js";
import { noise } from "./reader-contract.js";
import { expectSame, rowOf } from "./same-reading.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const coderOf = async (description: SaeDescription) =>
  new SaeCoder(await compileSae({ description, precision: "f32", cacheRoot }), { threads: 2, spin: false });

/** A row of codes as a reading of all of its features. */
function readingOf(codes: CodedRows, row: number, sae: SaeDescription, x: Float32Array) {
  const [start, end] = [codes.starts[row]!, codes.starts[row + 1]!];
  const [z, squares] = [codes.norms[row]!, codes.squares[row]!];
  const difference = x.map((value, i) => value - codes.reconstruction[row * sae.dIn + i]!);
  return {
    l0: end - start,
    z,
    f: Math.sqrt(squares),
    epsLbo: squares > 0 && sae.dSae > 1 ? Math.abs(z ** 2 - squares) / ((sae.dSae - 1) * squares) : null,
    mse: difference.reduce((sum, value) => sum + value ** 2, 0) / sae.dIn,
    indices: codes.features.subarray(start, end),
    values: codes.activations.subarray(start, end),
  };
}

const folders = ["saelens", "sparsify", "dictionary_learning", "gemma-scope"]
  .flatMap((format) => goldenSaes(join(GOLDEN, format)))
  .filter((folder) => !folder.includes("AutoEncoder-legacy-file"));

describe.each(folders)("rows coded with an SAE (%s)", (folder) => {
  it("are those of the float64 reference to 1e-5, or a refusal where nothing is reconstructed", async () => {
    const sae = await openSae(folder);
    if (sae.kind === "transcoder") {
      await expect(coderOf(sae)).rejects.toThrow(/is a transcoder/);
      return;
    }
    using coder = await coderOf(sae);
    const x = expected(folder, "x");
    const codes = coder.code(x);
    for (const [row, want] of readFeatures(sae, x).entries()) {
      const own = rowOf(x, row, sae.dIn);
      expectSame(readingOf(codes, row, sae, own), want, own, 1e-5);
      if (sae.activation.kind === "top-afa") expect(codes.cuts?.[row]).toBe(want.k);
    }
    const { reconstruction: _, normalisedErrors: __, ...encoded } = codes;
    expect(coder.encode(x)).toEqual(encoded);
  });
});

describe("rows of a wide top-AFA SAE", () => {
  const wide = randomSae(40, 5000, 1);

  it("are the same in one call and in many, and their errors are those of the normalised scale", async () => {
    using coder = await coderOf(wide);
    const x = noise(300, 40);
    const codes = coder.code(x);
    expect(codes.rows).toBe(300);
    const want = readFeatures(wide, x);
    for (const row of [0, 127, 128, 299]) {
      expectSame(readingOf(codes, row, wide, rowOf(x, row, 40)), want[row]!, rowOf(x, row, 40), 1e-5);
      expect(codes.cuts?.[row]).toBe(want[row]?.k);
      const scale = codes.scales[row]!;
      const factor = codes.factors[row]!;
      expect(factor * (scale + 1e-5)).toBeCloseTo(1, 9);
      const error = rowOf(x, row, 40).reduce((sum, value, i) => {
        const normalised = (value - codes.shifts[row]!) * factor;
        return sum + (normalised - (codes.reconstruction[row * 40 + i]! - codes.shifts[row]!) / scale) ** 2;
      }, 0);
      expect(codes.normalisedErrors[row]! / error).toBeCloseTo(1, 4);
      const [alone] = [coder.code(rowOf(x, row, 40).slice())];
      expect(alone.starts[1]).toBe(codes.starts[row + 1]! - codes.starts[row]!);
    }
  });

  it("have no features and are NaN where they hold NaN, and leave others alone", async () => {
    using coder = await coderOf({ ...wide, normalisation: "none" });
    const x = noise(3, 40);
    const clean = coder.code(x);
    x[45] = Number.NaN;
    const codes = coder.code(x);
    expect([...codes.starts]).toEqual([0, clean.starts[1], clean.starts[1], codes.features.length]);
    expect(codes.reconstruction.subarray(40, 80).every(Number.isNaN)).toBe(true);
    expect([codes.norms[1], codes.squares[1], codes.normalisedErrors[1]]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    for (const row of [0, 2]) expect(codes.norms[row]).toBe(clean.norms[row]);
  });

  it("may be none, and must be whole", async () => {
    using coder = await coderOf(wide);
    expect(coder.code(new Float32Array())).toMatchObject({ rows: 0, features: new Uint32Array() });
    expect(() => coder.code(new Float32Array(41))).toThrow(/41 values are not rows of 40/);
    // A zero vector keeps one place, which holds 0.
    const zero = coder.code(new Float32Array(40));
    expect([zero.cuts?.[0], zero.starts[1]]).toEqual([1, 0]);
  });
});
