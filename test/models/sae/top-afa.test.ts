import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { rowNorms } from "../../../models/sae/folding.js";
import { openSae } from "../../../models/sae/formats/index.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import { expected, expectedIntegers } from "./golden-sae.js";
import { type FeatureRow, readFeatures } from "./reference/features.js";

const CHECKPOINT = "blocks.1.hook_resid_pre_256_topafa_0_0.03125_20000";
const [D, H] = [32, 256];
/** The square of its norm underflows in the authors' float32, and which of equal features comes first is arbitrary. */
const UNDERFLOWING = 2;
/** A feature within the band of equally good cuts is smaller than this share of |z|. */
const BAND = 3.3e-3;

/** `actual` equals `wanted` to 1e-4 of it, or of `scale` where that is larger. */
const near = (actual: number, wanted: number, scale = 0) =>
  Math.abs(actual - wanted) <= 1e-4 * Math.max(Math.abs(wanted), scale);

describe.each(["init", "init-unit-norm", "general", "general-unit-norm"])(
  "top-AFA against its authors' code (%s)",
  (name) => {
    const folder = join("test", "golden", "top-afa", name);
    const of = (tensor: string) => expected(folder, tensor);
    let sae: SaeDescription;
    let rows: FeatureRow[];
    beforeAll(async () => {
      sae = await openSae(join(folder, "checkpoints", CHECKPOINT));
      rows = readFeatures(sae, of("x"));
    });

    it("reads the checkpoint", () => {
      expect(sae).toMatchObject({ dIn: D, dSae: H, activation: { kind: "top-afa" }, bEnc: null, modelName: "tiny" });
      expect(sae.normalisation).toBe(name.endsWith("unit-norm") ? "layer_norm" : "none");
      expect(sae.hook).toMatchObject({ name: "blocks.1.hook_resid_pre" });
    });

    it("cuts where they cut", () => {
      const [least, most] = [expectedIntegers(folder, "k_min"), expectedIntegers(folder, "k_max")];
      for (const [row, { k }] of rows.entries()) {
        expect(k, `row ${row}`).toBeGreaterThanOrEqual(least[row] ?? Number.NaN);
        expect(k, `row ${row}`).toBeLessThanOrEqual(most[row] ?? Number.NaN);
      }
    });

    it("keeps the same features where the cut is the same, and differs in negligible ones elsewhere", () => {
      const golden = {
        k: expectedIntegers(folder, "k"),
        acts: of("feature_acts"),
        relu: of("acts_relu"),
        z: of("norm_z"),
      };
      const norms = rowNorms(sae.wDec, H);
      let compared = 0;
      for (const [row, { k, indices, values, l0 }] of rows.entries()) {
        if (row === UNDERFLOWING) continue;
        const wanted = golden.acts.subarray(row * H, (row + 1) * H);
        const largest = Math.max(...wanted);
        const found = new Float32Array(H);
        for (const [i, feature] of indices.entries()) found[feature] = values[i] ?? 0;
        for (let feature = 0; feature < H; feature++) {
          const [actual, right] = [found[feature] ?? 0, wanted[feature] ?? 0];
          const size = (golden.relu[row * H + feature] ?? 0) * (norms[feature] ?? 0);
          const other = k !== golden.k[row] && actual > 0 !== right > 0;
          if (other) expect(size, `row ${row} feature ${feature}`).toBeLessThan(BAND * (golden.z[row] ?? 0));
          else {
            expect(actual > 0, `row ${row} feature ${feature}`).toBe(right > 0);
            expect(near(actual, right, largest), `row ${row} feature ${feature}: ${actual} for ${right}`).toBe(true);
          }
        }
        if (k === golden.k[row]) {
          compared++;
          expect(l0).toBe(expectedIntegers(folder, "l0")[row]);
        }
      }
      expect(compared).toBeGreaterThan(50);
    });

    it("gives their norms, errors and eps_lbo", () => {
      const golden = { z: of("norm_z"), f: of("norm_f"), mse: of("mse"), eps: of("eps_lbo"), x: of("x") };
      for (const [row, { z, f, mse, epsLbo }] of rows.entries()) {
        if (row === UNDERFLOWING) continue;
        const at = (values: Float32Array) => values[row] ?? Number.NaN;
        expect(near(z, at(golden.z)), `|z| of row ${row}: ${z} for ${at(golden.z)}`).toBe(true);
        expect(near(f, at(golden.f), 1e-3 * z), `|f| of row ${row}: ${f} for ${at(golden.f)}`).toBe(true);
        // Of a reconstruction that is nearly right only float32's rounding of x is left.
        const squareOfX = golden.x.subarray(row * D, (row + 1) * D).reduce((sum, value) => sum + value ** 2, 0) / D;
        expect(
          near(mse ?? Number.NaN, at(golden.mse), squareOfX),
          `mse of row ${row}: ${mse} for ${at(golden.mse)}`,
        ).toBe(true);
        if (!Number.isFinite(at(golden.eps))) expect(epsLbo, `eps_lbo of row ${row}`).toBeNull();
        else {
          // A difference of squares: float32's error of the squares is what stays where they are nearly equal.
          const squares = Math.max((z / f) ** 2, 1) / (H - 1);
          const lost = name.endsWith("unit-norm") ? 1 : 1e-2;
          expect(
            near(epsLbo ?? Number.NaN, at(golden.eps), lost * squares),
            `eps_lbo ${row}: ${epsLbo} for ${at(golden.eps)}`,
          ).toBe(true);
        }
      }
    });

    it("gives features by size, the largest first", () => {
      const norms = rowNorms(sae.wDec, H);
      for (const { indices, values } of rows) {
        const sizes = Array.from(indices, (feature, i) => (values[i] ?? 0) * (norms[feature] ?? 0));
        for (let i = 1; i < sizes.length; i++) expect(sizes[i]! / sizes[i - 1]!).toBeLessThan(1 + 1e-6);
      }
    });
  },
);
