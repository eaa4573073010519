/** The largest code of a weight. */
const LARGEST = 127;

/**
 * Rows that `quantiseChannels` adds to a matrix with so many inputs; kernels take four at a time. The sum of a column of a
 * trained matrix grows with the root of its length: of SmolLM2's columns one in a thousand has a sum beyond 127 times this.
 */
export const foldedRows = (columns: number): number => 4 * Math.ceil(Math.sqrt(columns) / 4);

/**
 * Rows [rows, columns] as int8 with a scale each, w = scale * code, and behind each row `foldedRows` codes more that make its sum
 * zero. Activations a = s * (u - z) of unsigned bytes u with a zero point z can then be multiplied as if z were 0: with that many
 * z behind the bytes, which are zeros of a, the products of z add up to nothing.
 *
 * A row whose sum is too large for these codes gets a larger scale.
 */
export function quantiseChannels(
  values: Float32Array,
  rows: number,
  columns: number,
): { readonly codes: Float32Array; readonly scales: Float32Array } {
  const folded = foldedRows(columns);
  const codes = new Float32Array(rows * (columns + folded));
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const own = values.subarray(row * columns, (row + 1) * columns);
    const start = row * (columns + folded);
    const target = codes.subarray(start, start + columns);
    let largest = 0;
    for (const value of own) largest = Math.max(largest, Math.abs(value));
    let scale = Math.fround(largest / LARGEST);
    let rest = -roundTo(target, own, scale);
    while (Math.abs(rest) > LARGEST * folded) {
      scale = Math.fround(scale * Math.max(1.001, Math.abs(rest) / (LARGEST * folded)));
      rest = -roundTo(target, own, scale);
    }
    scales[row] = scale;
    for (let i = 0; i < folded; i++) {
      const code = Math.round(rest / (folded - i));
      codes[start + columns + i] = code;
      rest -= code;
    }
  }
  return { codes, scales };
}

/** The sum of the codes. */
function roundTo(codes: Float32Array, values: Float32Array, scale: number): number {
  if (scale === 0) return 0;
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const code = Math.round((values[i] ?? 0) / scale);
    codes[i] = code;
    sum += code;
  }
  return sum;
}
