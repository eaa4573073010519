import { describe, expect, it } from "vitest";
import { readGgufHeader } from "../../../models/gguf/gguf-header.js";
import { repackRows } from "../../../models/gguf/repack.js";
import { openTensorData } from "../../../models/gguf/tensor-data.js";
import { type BlockFormat, blocksOf, heldFormat, type PackedRows } from "../../../models/weights/block-format.js";
import { quantiseRows4 } from "../../../models/weights/quantise-4.js";
import { goldenFolder } from "../../golden-tensors.js";
import { randomWeights } from "../random-model.js";

const HELD = ["Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0"];
const [ROWS, COLUMNS] = [8, 512];

/** The matrix that packed rows stand for, in f64: scale * (code - zero) + minimum. */
function unpacked({ codes, scales, minima }: PackedRows, format: BlockFormat, columns: number): Float64Array {
  const zero = 2 ** (format.bits - 1);
  const blocks = blocksOf(columns, format);
  const code = (block: number, j: number): number => {
    if (format.bits === 8) return codes[block * format.size + j] ?? Number.NaN;
    const byte = codes[(block * format.size + j) >> 1] ?? Number.NaN;
    return j % 2 === 0 ? byte & 15 : byte >> 4;
  };
  return Float64Array.from({ length: (scales.length / blocks) * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const block = row * blocks + Math.floor(column / format.size);
    return (scales[block] ?? 0) * (code(block, column % format.size) - zero) + (minima[block] ?? 0);
  });
}

describe("blocks of a GGUF file, as a matrix multiplication holds them", () => {
  const header = readGgufHeader(goldenFolder("gguf/types.gguf"));
  it.each(HELD)("%s: every weight is the one that the file has", (dtype) => {
    const name = dtype.toLowerCase();
    const info = header.tensors.get(name)!;
    const data = openTensorData(header);
    const want = new Float32Array(ROWS * COLUMNS);
    data.decode(name, info, 0, want);
    const stored = new Uint8Array((want.length / info.type.elements) * info.type.bytes);
    data.read(info, 0, stored);
    data.close();
    const format = heldFormat(dtype)!;
    const packed = repackRows(dtype, stored, ROWS, COLUMNS);
    const found = unpacked(packed, format, COLUMNS);
    // A minimum is kept as what belongs to the middle code: a sum of two numbers of f32, rounded once.
    for (let block = 0; block < packed.scales.length; block++) {
      const range = [block * format.size, (block + 1) * format.size] as const;
      const largest = Math.max(...want.subarray(...range).map(Math.abs), 16 * Math.abs(packed.scales[block] ?? 0));
      for (let i = range[0]; i < range[1]; i++)
        expect(Math.abs((found[i] ?? Number.NaN) - (want[i] ?? 0))).toBeLessThanOrEqual(
          format.minima ? 1.2e-7 * largest : 1e-7 * Math.abs(want[i] ?? 0),
        );
    }
  });

  it("types that no product holds are known as such", () => {
    for (const dtype of ["F32", "F16", "BF16", "Q2_K", "Q3_K", "IQ4_NL", "__proto__"])
      expect(heldFormat(dtype)).toBeNull();
    expect(() => repackRows("Q2_K", new Uint8Array(84), 1, 256)).toThrow(RangeError);
  });
});

describe("a matrix in 4 bits", () => {
  it.each([
    [5, 64],
    [3, 100],
    [2, 31],
  ])("of [%i, %i] is nearer to what it was than rounding to sixteen even steps", (rows, columns) => {
    const values = randomWeights(rows * columns, 3, 0.7);
    const found = unpacked(quantiseRows4(values, rows, columns), heldFormat("Q4_0")!, columns);
    let [error, plain, size] = [0, 0, 0];
    for (let row = 0; row < rows; row++)
      for (let start = 0; start < columns; start += 32) {
        const range = [row * columns + start, row * columns + Math.min(start + 32, columns)] as const;
        const block = values.subarray(...range);
        const step = Math.max(...block.map(Math.abs)) / 7.5;
        for (const [i, value] of block.entries()) {
          error += (value - (found[range[0] + i] ?? Number.NaN)) ** 2;
          plain += step ** 2 / 12;
          size += value ** 2;
        }
      }
    expect(error).toBeLessThan(plain * 1.1);
    expect(Math.sqrt(error / size)).toBeLessThan(0.08);
  });

  it("keeps zero blocks and the largest weight of a block", () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? 0 : i === 40 ? -3 : 0));
    const found = unpacked(quantiseRows4(values, 1, 64), heldFormat("Q4_0")!, 64);
    expect([...found]).toEqual([...values]);
  });
});
