import type { ChosenActivation } from "../../../../models/sae/chosen-activation.js";
import type { SaeDescription } from "../../../../models/sae/sae.js";
import { decodeRow } from "./decode.js";
import { rowEncoder } from "./encode.js";
import { rowsOf } from "./rows.js";

/** What an SAE says of one input, and how good a reading that is. */
export interface FeatureRow {
  /** Places kept by the cut; of top-AFA at least 1, places that hold 0 included. */
  readonly k: number;
  /** Kept features above 0. */
  readonly l0: number;
  /** |normalised x - bDec| */
  readonly z: number;
  /** Square root of the sum of kept (activation * |decoder row|)^2. */
  readonly f: number;
  /** |z^2 - f^2| / ((dSae - 1) f^2); null where f = 0 or dSae = 1. */
  readonly epsLbo: number | null;
  /** Mean square of x - reconstruction, on x's scale; null of a transcoder, which does not reconstruct x. */
  readonly mse: number | null;
  /** [l0] kept features, by (activation * |decoder row|) downwards, of equal ones the lowest first. */
  readonly indices: Uint32Array;
  /** [l0] their activations. */
  readonly values: Float32Array;
}

/**
 * Features of each row of x [rows, dIn], computed in float64: the reference for native graphs. A row that holds
 * NaN has no features; its z and mse are NaN.
 * @throws RangeError as `encode`.
 */
export function readFeatures(
  sae: SaeDescription,
  x: Float32Array,
  chosen: ChosenActivation = { kind: "native" },
): FeatureRow[] {
  const encodeRow = rowEncoder(sae, chosen);
  return rowsOf(x, sae.dIn).map((row) => {
    const { input, activations, shares, cut } = encodeRow(row);
    const share = (feature: number) => shares[feature] ?? 0;
    const features = [...cut.features].sort((a, b) => share(b) - share(a) || a - b);
    const kept = features.map((feature) => [feature, activations[feature] ?? 0] as const);
    const f2 = features.reduce((sum, feature) => sum + share(feature), 0);
    return {
      k: cut.k,
      l0: features.length,
      z: input.norm,
      f: Math.sqrt(f2),
      epsLbo: f2 > 0 && sae.dSae > 1 ? Math.abs(input.norm ** 2 - f2) / ((sae.dSae - 1) * f2) : null,
      mse: sae.kind === "transcoder" ? null : meanSquare(row, decodeRow(sae, kept, input, row)),
      indices: Uint32Array.from(features),
      values: Float32Array.from(kept, ([, activation]) => activation),
    };
  });
}

function meanSquare(x: Float32Array, reconstruction: Float64Array): number {
  return x.reduce((sum, value, i) => sum + (value - (reconstruction[i] ?? 0)) ** 2, 0) / x.length;
}
