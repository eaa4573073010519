/** Rows that are transposed together, so that reads and writes both stay within the processor's caches. */
const TILE = 32;

/** The rows of `values` [rows, columns] become columns `first`, first + 1, ... of `target` [columns, width]. */
export function transposeRows(
  values: Float32Array,
  columns: number,
  target: Float32Array,
  width: number,
  first: number,
): void {
  const rows = values.length / columns;
  for (let start = 0; start < rows; start += TILE) {
    const end = Math.min(start + TILE, rows);
    for (let column = 0; column < columns; column++) {
      const base = column * width + first;
      for (let row = start; row < end; row++) target[base + row] = values[row * columns + column] ?? 0;
    }
  }
}
