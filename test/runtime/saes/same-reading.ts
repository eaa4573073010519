import { expect } from "vitest";
import type { ChosenActivation } from "../../../models/sae/chosen-activation.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import type { RowReading } from "../../../runtime/saes/row-reading.js";
import type { FeatureRow } from "../../models/sae/reference/features.js";

export const ACTIVATIONS: readonly ChosenActivation[] = [
  { kind: "native" },
  { kind: "top-afa" },
  { kind: "top-k", k: 5 },
];
export const possible = (sae: SaeDescription) =>
  ACTIVATIONS.filter(({ kind }) => kind !== "top-afa" || sae.kind === "autoencoder");

export const rowOf = (x: Float32Array, row: number, width: number) => x.subarray(row * width, (row + 1) * width);
export const EVERYTHING = 2 ** 26;

/**
 * `got` says what the reference says up to `tolerance`, of activations relative to the row's largest, of mse relative to
 * the mean square of x: the same features but for such as are that near to the weakest that is kept.
 */
export function expectSame(got: RowReading, want: FeatureRow, x: Float32Array, tolerance: number): void {
  const largest = Math.max(...want.values, 1e-30);
  const differences = [
    [got, want],
    [want, got],
  ].map(([these, those]) => {
    const others = new Map([...(those?.indices ?? [])].map((feature, i) => [feature, those?.values[i] ?? 0]));
    const weakest = Math.min(...(those?.values ?? []), largest);
    return Math.max(
      0,
      ...[...(these?.indices ?? [])].map((feature, i) =>
        Math.abs((these?.values[i] ?? 0) - (others.get(feature) ?? weakest)),
      ),
    );
  });
  expect(Math.max(...differences)).toBeLessThanOrEqual(tolerance * largest);
  const square = x.reduce((sum, value) => sum + value ** 2, 0) / x.length;
  expect(got.l0).toBe(got.indices.length);
  expect(Math.abs(got.z - want.z)).toBeLessThanOrEqual(1e-6 * want.z);
  expect(Math.abs(got.f - want.f)).toBeLessThanOrEqual(tolerance * Math.max(want.f, largest));
  expect(got.epsLbo === null).toBe(want.epsLbo === null);
  if (want.mse === null) expect(got.mse).toBeNaN();
  else expect(Math.abs(got.mse - want.mse)).toBeLessThanOrEqual(tolerance * Math.max(want.mse, square));
}
