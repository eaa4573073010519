import type { CompiledSae } from "../../models/sae/compile-sae.js";
import type { SaePrecision } from "../../models/sae/sae-matrices.js";
import type { SaeReading } from "../contract/features.js";

/** What an SAE says of one row. */
export type RowReading = Omit<SaeReading, "sae">;

/** Rows are read in blocks of as many as have this many bytes of products, so that a long prompt takes no more memory. */
const BLOCK_BYTES = 8 << 20;
const MOST_ROWS = 128;

/** Rows of a block at most, a power of two. */
export function rowsOfBlock(dSae: number): number {
  const fitting = Math.max(1, BLOCK_BYTES / (Float32Array.BYTES_PER_ELEMENT * dSae));
  return 2 ** Math.floor(Math.log2(Math.min(MOST_ROWS, fitting)));
}

/** Rows that so many are rounded up to: up to 8 none, then a quarter of the power of two below at a time. */
export function roundedRows(rows: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(rows)) - 2));
  return Math.ceil(rows / step) * step;
}

/**
 * The share of |f|^2 by which |z|^2 must differ from it for eps_lbo to be told. With an encoder in 8 bits |f|^2 is off by
 * about 0.1 %, which is more than the difference that top-AFA leaves: of the embedded model's SAEs a third of all eps_lbo
 * would be wrong by more than a factor of 2; beyond this share one in 3,000 is by more than 10 %.
 */
const RESOLVED: Readonly<Record<SaePrecision, number>> = { f32: 0, q8: 0.05 };

/** null where |f| is 0, and where the precision says nothing of so small a difference. @param squares |f|^2 */
export function epsLbo(
  norm: number,
  squares: number,
  { description: { dSae }, precision }: CompiledSae,
): number | null {
  const difference = Math.abs(norm ** 2 - squares);
  if (!(squares > 0) || dSae <= 1 || difference < RESOLVED[precision] * squares) return null;
  return difference / ((dSae - 1) * squares);
}

/** Of a row that holds NaN. @param z its norm */
export function unreadable(z: number): RowReading {
  const [indices, values] = [new Uint32Array(), new Float32Array()];
  return { l0: 0, z, f: 0, epsLbo: null, mse: Number.NaN, indices, values };
}
