import { codeBytes, heldFormat, type PackedRows, packCodes } from "../weights/block-format.js";
import { f16At } from "./block-decoder.js";
import { minimumAt, scaleAt } from "./k-blocks.js";

/** Takes block `block` of MatMulNBits's from the stored bytes: its codes, 0 to 2^bits - 1, into `codes`; its scale and minimum, w = scale * code + minimum. */
type Unpack = (
  stored: Uint8Array,
  block: number,
  codes: Uint8Array,
) => { readonly scale: number; readonly minimum: number };

/** Codes in the low, then in the high halves of 16 bytes. */
function nibbles(stored: Uint8Array, at: number, codes: Uint8Array): void {
  for (let j = 0; j < 16; j++) {
    const byte = stored[at + j]!;
    codes[j] = byte & 15;
    codes[j + 16] = byte >> 4;
  }
}

/** The same with a fifth bit from 4 bytes at `high`. */
function fiveBits(stored: Uint8Array, at: number, high: number, codes: Uint8Array): void {
  nibbles(stored, at, codes);
  for (let j = 0; j < 32; j++) codes[j] = codes[j]! | (((stored[high + (j >> 3)]! >> (j & 7)) & 1) << 4);
}

/** By type; layouts: ggml-common.h, dequantisation: ggml-quants.c. */
const UNPACK: Readonly<Record<string, Unpack>> = {
  Q4_0(stored, block, codes) {
    const at = block * 18;
    nibbles(stored, at + 2, codes);
    const scale = f16At(stored, at);
    return { scale, minimum: -8 * scale };
  },
  Q4_1(stored, block, codes) {
    const at = block * 20;
    nibbles(stored, at + 4, codes);
    return { scale: f16At(stored, at), minimum: f16At(stored, at + 2) };
  },
  Q5_0(stored, block, codes) {
    const at = block * 22;
    fiveBits(stored, at + 6, at + 2, codes);
    // -16 becomes the 0 of 8 bits.
    for (let j = 0; j < 32; j++) codes[j] = codes[j]! + 112;
    const scale = f16At(stored, at);
    return { scale, minimum: -128 * scale };
  },
  Q5_1(stored, block, codes) {
    const at = block * 24;
    fiveBits(stored, at + 8, at + 4, codes);
    return shifted(f16At(stored, at), f16At(stored, at + 2), codes, 112);
  },
  Q8_0(stored, block, codes) {
    const at = block * 34;
    for (let j = 0; j < 32; j++) codes[j] = stored[at + 2 + j]! ^ 128;
    const scale = f16At(stored, at);
    return { scale, minimum: -128 * scale };
  },
  Q4_K(stored, block, codes) {
    const [at, group] = [(block >> 3) * 144, block & 7];
    const from = at + 16 + 32 * (group >> 1);
    const shift = 4 * (group & 1);
    for (let j = 0; j < 32; j++) codes[j] = (stored[from + j]! >> shift) & 15;
    return {
      scale: Math.fround(f16At(stored, at) * scaleAt(stored, at + 4, group)),
      minimum: -Math.fround(f16At(stored, at + 2) * minimumAt(stored, at + 4, group)),
    };
  },
  Q5_K(stored, block, codes) {
    const [at, group] = [(block >> 3) * 176, block & 7];
    const from = at + 48 + 32 * (group >> 1);
    const shift = 4 * (group & 1);
    for (let j = 0; j < 32; j++)
      codes[j] = ((stored[from + j]! >> shift) & 15) | (((stored[at + 16 + j]! >> group) & 1) << 4);
    const scale = Math.fround(f16At(stored, at) * scaleAt(stored, at + 4, group));
    return shifted(scale, -Math.fround(f16At(stored, at + 2) * minimumAt(stored, at + 4, group)), codes, 112);
  },
  Q6_K(stored, block, codes) {
    const [at, group] = [(block >> 4) * 210, block & 15];
    const half = group >> 3;
    const low = at + 64 * half + 16 * (group & 3);
    const high = at + 128 + 32 * half + 16 * (group & 1);
    for (let j = 0; j < 16; j++) {
      const code = ((stored[low + j]! >> (group & 4)) & 15) | (((stored[high + j]! >> (group & 6)) & 3) << 4);
      codes[j] = code - 32 + 128;
    }
    const scale = Math.fround(f16At(stored, at + 208) * ((stored[at + 192 + group]! << 24) >> 24));
    return { scale, minimum: -128 * scale };
  },
};

/** Codes moved up, so that they lie around the zero point, which activations' rounding errors are multiplied with least. */
function shifted(scale: number, minimum: number, codes: Uint8Array, by: number): { scale: number; minimum: number } {
  for (let j = 0; j < codes.length; j++) codes[j] = codes[j]! + by;
  return { scale, minimum: minimum - by * scale };
}

/**
 * Stored rows of a block type in the format that holds them (`heldFormat`); no weight changes.
 * @param stored whole rows, `columns` weights each
 * @throws RangeError if the type is none that is held
 */
export function repackRows(dtype: string, stored: Uint8Array, rows: number, columns: number): PackedRows {
  const format = heldFormat(dtype);
  const unpack = UNPACK[dtype];
  if (format === null || unpack === undefined) throw new RangeError(`${dtype} is not held in blocks`);
  const blocks = (rows * columns) / format.size;
  const bytes = codeBytes(format);
  const zero = 2 ** (format.bits - 1);
  const packed: PackedRows = {
    codes: new Uint8Array(blocks * bytes),
    scales: new Float32Array(blocks),
    minima: new Float32Array(format.minima ? blocks : 0),
  };
  const codes = new Uint8Array(format.size);
  for (let block = 0; block < blocks; block++) {
    const { scale, minimum } = unpack(stored, block, codes);
    packed.scales[block] = scale;
    if (format.minima) packed.minima[block] = minimum + zero * scale;
    packCodes(codes, format, packed.codes, block * bytes);
  }
  return packed;
}
