import { blocksOf, codeBytes, type PackedRows, PLAIN_4, packCodes } from "./block-format.js";

const SIZE = PLAIN_4.size;
/** Scales tried: the largest weight becomes -8, and a little more or less. */
const TRIED = Float64Array.from({ length: 13 }, (_, i) => -8 + 0.15 * (i - 6));

/**
 * Rows [rows, columns] in 4 bits: w = scale * (code - 8), for each block the scale that leaves the smallest squared error
 * of those tried. A last block that is not full is filled with zeros.
 */
export function quantiseRows4(values: Float32Array, rows: number, columns: number): PackedRows {
  const blocks = blocksOf(columns, PLAIN_4);
  const bytes = codeBytes(PLAIN_4);
  const packed: PackedRows = {
    codes: new Uint8Array(rows * blocks * bytes),
    scales: new Float32Array(rows * blocks),
    minima: new Float32Array(0),
  };
  const block = new Float32Array(SIZE);
  const codes = new Uint8Array(SIZE);
  for (let at = 0; at < rows * blocks; at++) {
    const row = Math.floor(at / blocks);
    const start = row * columns + (at % blocks) * SIZE;
    block.fill(0);
    block.set(values.subarray(start, Math.min(start + SIZE, (row + 1) * columns)));
    const scale = bestScale(block);
    packed.scales[at] = scale;
    const inverse = scale === 0 ? 0 : 1 / scale;
    for (let i = 0; i < SIZE; i++) codes[i] = 8 + nearest(inverse * block[i]!);
    packCodes(codes, PLAIN_4, packed.codes, at * bytes);
  }
  return packed;
}

const nearest = (value: number): number => Math.max(-8, Math.min(7, Math.round(value)));

/** Given codes c, the best scale is sum(x c) / sum(c c), and lowers the squared error by sum(x c)^2 / sum(c c). */
function bestScale(block: Float32Array): number {
  let largest = 0;
  for (const value of block) if (Math.abs(value) > Math.abs(largest)) largest = value;
  let [best, gained] = [0, 0];
  if (largest === 0) return 0;
  for (const steps of TRIED) {
    const inverse = steps / largest;
    let [xc, cc] = [0, 0];
    for (let i = 0; i < SIZE; i++) {
      const value = block[i]!;
      const code = nearest(inverse * value);
      xc += value * code;
      cc += code * code;
    }
    if (xc * xc <= gained * cc) continue;
    [best, gained] = [xc / cc, (xc * xc) / cc];
  }
  return Math.fround(best);
}
