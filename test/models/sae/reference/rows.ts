/** The rows of a matrix, as views. */
export function rowsOf(matrix: Float32Array, width: number): Float32Array[] {
  if (matrix.length % width !== 0) throw new RangeError(`${matrix.length} values are not rows of ${width}`);
  const rows: Float32Array[] = [];
  for (let start = 0; start < matrix.length; start += width) rows.push(matrix.subarray(start, start + width));
  return rows;
}
