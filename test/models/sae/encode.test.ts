import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openSae } from "../../../models/sae/formats/index.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import { expected, GOLDEN } from "./golden-sae.js";
import { decode } from "./reference/decode.js";
import { encode } from "./reference/encode.js";
import { readFeatures } from "./reference/features.js";

const [ROWS, H] = [16, 128];

const nonZero = (activations: Float32Array, row: number) =>
  [...activations.subarray(row * H, (row + 1) * H).entries()].filter(([, value]) => value !== 0);

describe.each(["standard-none", "gated-none", "jumprelu-layer_norm", "topk"])(
  "an SAE asked for another activation (%s)",
  (name) => {
    const folder = join(GOLDEN, "saelens", name);
    const x = expected(folder, "x");
    let sae: SaeDescription;
    /** Before any cut. */
    let own: Float32Array;
    beforeAll(async () => {
      sae = await openSae(folder);
      own = encode({ ...sae, activation: sae.activation.kind === "top-k" ? { kind: "relu" } : sae.activation }, x);
    });

    it("keeps the k largest of its own activations", () => {
      const kept = encode(sae, x, { kind: "top-k", k: 5 });
      for (let row = 0; row < ROWS; row++) {
        const largest = nonZero(own, row)
          .sort(([, a], [, b]) => b - a)
          .slice(0, 5);
        expect(nonZero(kept, row)).toEqual(largest.sort(([a], [b]) => a - b));
      }
    });

    it("keeps by top-AFA as many of them as make up the norm of its input", () => {
      const norms = Array.from({ length: H }, (_, feature) =>
        Math.hypot(...sae.wDec.subarray(32 * feature, 32 * feature + 32)),
      );
      for (const [row, { k, l0, z, f, indices, values }] of readFeatures(sae, x, { kind: "top-afa" }).entries()) {
        const sizes = nonZero(own, row).map(([feature, value]) => ({ feature, size: value * (norms[feature] ?? 0) }));
        const largest = sizes.sort((a, b) => b.size - a.size);
        const length = (count: number) => Math.hypot(...largest.slice(0, count).map(({ size }) => size));
        const lengths = largest.map((_, i) => Math.abs(length(i + 1) - z));
        expect(k).toBe(lengths.indexOf(Math.min(...lengths)) + 1);
        expect(l0).toBe(k);
        expect([...indices]).toEqual(largest.slice(0, k).map(({ feature }) => feature));
        expect(f).toBeCloseTo(length(k), 4);
        for (const [i, feature] of indices.entries()) expect(values[i]).toBe(own[row * H + feature]);
      }
    });
  },
);

describe("the norm of an input", () => {
  it("is taken from b_dec, also where that is not subtracted before encoding", async () => {
    const folder = join(GOLDEN, "saelens", "standard-no-b_dec-input");
    const [sae, x] = [await openSae(folder), expected(folder, "x")];
    expect(sae.subtractsBDec).toBe(false);
    const { z } = readFeatures(sae, x.subarray(0, 32))[0]!;
    expect(z).toBeCloseTo(Math.hypot(...sae.bDec.map((value, i) => x[i]! - value)), 4);
  });
});

describe("inputs at the edge", () => {
  const read = (...path: string[]) => openSae(join(GOLDEN, ...path));

  it("make numbers of a zero vector, whatever the normalisation", async () => {
    for (const name of ["standard-none", "standard-layer_norm", "standard-constant_norm_rescale"]) {
      const sae = await read("saelens", name);
      const zero = new Float32Array(32);
      const activations = encode(sae, zero);
      expect(activations.every(Number.isFinite), name).toBe(true);
      expect(Number.isFinite(readFeatures(sae, zero)[0]?.z), name).toBe(true);
      expect(decode(sae, activations, zero).every(Number.isFinite), name).toBe(true);
    }
  });

  it("have no features where they are not numbers, and say so", async () => {
    for (const kind of ["native", "top-afa"] as const) {
      const sae = await read("saelens", "standard-layer_norm");
      const row = readFeatures(sae, new Float32Array(32).fill(Number.NaN), { kind })[0];
      expect(row).toMatchObject({ l0: 0, z: Number.NaN, f: 0, epsLbo: null, mse: Number.NaN });
    }
  });

  it("are whole rows", async () => {
    const sae = await read("saelens", "standard-none");
    expect(() => encode(sae, new Float32Array(33))).toThrow(RangeError);
    expect(() => decode(sae, new Float32Array(128), new Float32Array(64))).toThrow(RangeError);
  });

  it("are refused where the question makes no sense", async () => {
    const x = new Float32Array(32);
    const transcoder = await read("saelens", "transcoder");
    expect(() => encode(transcoder, x, { kind: "top-afa" })).toThrow(/is a transcoder/);
    for (const k of [0, 1.5, 129, Number.NaN])
      expect(() => encode(transcoder, x, { kind: "top-k", k })).toThrow(RangeError);
  });
});
