import type { SaeReading } from "./features.js";

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

/** Rows of the block that so many are read in: a power of two, so that a handful of blocks do for all. */
export const paddedRows = (rows: number): number => 2 ** Math.ceil(Math.log2(rows));

/** @param squares |f|^2 */
export const epsLbo = (norm: number, squares: number, dSae: number): number | null =>
  squares > 0 && dSae > 1 ? Math.abs(norm ** 2 - squares) / ((dSae - 1) * squares) : null;

/** Of a row that holds NaN. @param z its norm */
export function unreadable(z: number): RowReading {
  const [indices, values] = [new Uint32Array(), new Float32Array()];
  return { l0: 0, z, f: 0, epsLbo: null, mse: Number.NaN, indices, values };
}
