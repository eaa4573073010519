import { PLAIN_8 } from "./block-format.js";

/** Zero in unsigned 8-bit weights. */
const ZERO_POINT = 128;

/**
 * Rows [rows, columns] as MatMulNBits holds them with 8 bits: bytes [rows, blocks, size] around 128 and one scale per block,
 * w = scale * (byte - 128). A last block that is not full is filled with zeros.
 * @param size weights of a block
 */
export function quantiseRows(
  values: Float32Array,
  rows: number,
  columns: number,
  size: number = PLAIN_8.size,
): { data: Uint8Array; scales: Float32Array } {
  const blocks = Math.ceil(columns / size);
  const data = new Uint8Array(rows * blocks * size).fill(ZERO_POINT);
  const scales = new Float32Array(rows * blocks);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const start = row * columns + block * size;
      const end = Math.min(start + size, (row + 1) * columns);
      let largest = 0;
      for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i] ?? 0));
      const scale = Math.fround(largest / 127);
      const at = row * blocks + block;
      scales[at] = scale;
      if (scale === 0) continue;
      for (let i = start; i < end; i++) data[at * size + i - start] = Math.round((values[i] ?? 0) / scale) + ZERO_POINT;
    }
  }
  return { data, scales };
}

/** The matrix [rows, columns] that quantised rows stand for. */
export function dequantiseRows(
  { data, scales }: { data: Uint8Array; scales: Float32Array },
  rows: number,
  columns: number,
  size: number = PLAIN_8.size,
): Float32Array {
  const blocks = Math.ceil(columns / size);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const block = Math.floor(i / columns) * blocks + Math.floor((i % columns) / size);
    return ((data[block * size + ((i % columns) % size)] ?? 0) - ZERO_POINT) * (scales[block] ?? 0);
  });
}
