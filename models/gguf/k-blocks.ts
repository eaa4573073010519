import { type BlockDecoder, f16At, IQ4_VALUES } from "./block-decoder.js";

/** Blocks of 256 weights, in groups of 16 or 32 that have a scale (and a minimum) of their own. */
const WEIGHTS = 256;

/** 16 bytes (4 bits scale, 4 bits minimum), 256 x 2 bits q, f16 d, f16 dmin: w = (d scale) q - dmin minimum. */
export const q2_k: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 84, to += WEIGHTS) {
    const d = f16At(bytes, at + 80);
    const dmin = f16At(bytes, at + 82);
    for (let group = 0; group < 16; group++) {
      const packed = bytes[at + group]!;
      const scale = d * (packed & 15);
      const minimum = dmin * (packed >> 4);
      const codes = at + 16 + 32 * (group >> 3) + 16 * (group & 1);
      const shift = group & 6;
      for (let j = 0; j < 16; j++) out[to + 16 * group + j] = scale * ((bytes[codes + j]! >> shift) & 3) - minimum;
    }
  }
};

/** 256 high bits, 256 x 2 low bits q, 16 x 6 bits scale, f16 d: w = d (scale - 32) (q - 4). */
export const q3_k: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 110, to += WEIGHTS) {
    const d = f16At(bytes, at + 108);
    for (let group = 0; group < 16; group++) {
      const low = (bytes[at + 96 + (group & 7)]! >> (4 * (group >> 3))) & 15;
      const high = (bytes[at + 104 + (group & 3)]! >> (2 * (group >> 2))) & 3;
      const scale = d * ((low | (high << 4)) - 32);
      const mask = at + 16 * (group & 1);
      const codes = at + 32 + 32 * (group >> 3) + 16 * (group & 1);
      const shift = group & 6;
      for (let j = 0; j < 16; j++) {
        const code = ((bytes[codes + j]! >> shift) & 3) | (((bytes[mask + j]! >> (group >> 1)) & 1) << 2);
        out[to + 16 * group + j] = scale * (code - 4);
      }
    }
  }
};

/** f16 d, f16 dmin, 8 x 6 bits scale and minimum, 256 x 4 bits q: w = (d scale) q - dmin minimum. */
export const q4_k: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 144, to += WEIGHTS) {
    const d = f16At(bytes, at);
    const dmin = f16At(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = d * scaleAt(bytes, at + 4, group);
      const minimum = dmin * minimumAt(bytes, at + 4, group);
      const codes = at + 16 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let j = 0; j < 32; j++) out[to + 32 * group + j] = scale * ((bytes[codes + j]! >> shift) & 15) - minimum;
    }
  }
};

/** As Q4_K, with 256 high bits before the codes. */
export const q5_k: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 176, to += WEIGHTS) {
    const d = f16At(bytes, at);
    const dmin = f16At(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = d * scaleAt(bytes, at + 4, group);
      const minimum = dmin * minimumAt(bytes, at + 4, group);
      const codes = at + 48 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let j = 0; j < 32; j++) {
        const code = ((bytes[codes + j]! >> shift) & 15) | (((bytes[at + 16 + j]! >> group) & 1) << 4);
        out[to + 32 * group + j] = scale * code - minimum;
      }
    }
  }
};

/** 256 x 4 low bits q, 256 x 2 high bits, 16 x i8 scale, f16 d: w = d scale (q - 32). */
export const q6_k: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 210, to += WEIGHTS) {
    const d = f16At(bytes, at + 208);
    for (let group = 0; group < 16; group++) {
      const scale = d * ((bytes[at + 192 + group]! << 24) >> 24);
      const half = group >> 3;
      const low = at + 64 * half + 16 * (group & 3);
      const lowShift = group & 4;
      const high = at + 128 + 32 * half + 16 * (group & 1);
      const highShift = group & 6;
      for (let j = 0; j < 16; j++) {
        const code = ((bytes[low + j]! >> lowShift) & 15) | (((bytes[high + j]! >> highShift) & 3) << 4);
        out[to + 16 * group + j] = scale * (code - 32);
      }
    }
  }
};

/** f16 d, 8 x 2 high and 8 x 4 low bits scale, 256 x 4 bits q: w = d (scale - 32) IQ4_VALUES[q]. */
export const iq4_xs: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 136, to += WEIGHTS) {
    const d = f16At(bytes, at);
    const highs = bytes[at + 2]! | (bytes[at + 3]! << 8);
    for (let group = 0; group < 8; group++) {
      const low = (bytes[at + 4 + (group >> 1)]! >> (4 * (group & 1))) & 15;
      const scale = d * ((low | (((highs >> (2 * group)) & 3) << 4)) - 32);
      const codes = at + 8 + 16 * group;
      for (let j = 0; j < 16; j++) {
        out[to + 32 * group + j] = scale * IQ4_VALUES[bytes[codes + j]! & 15]!;
        out[to + 32 * group + j + 16] = scale * IQ4_VALUES[bytes[codes + j]! >> 4]!;
      }
    }
  }
};

/** Scales and minima of Q4_K and Q5_K: twelve bytes hold 8 of each, 6 bits wide; groups 4 to 7 are spread over two bytes. */
export const scaleAt = (bytes: Uint8Array, at: number, group: number): number =>
  group < 4 ? bytes[at + group]! & 63 : (bytes[at + group + 4]! & 15) | ((bytes[at + group - 4]! >> 6) << 4);

export const minimumAt = (bytes: Uint8Array, at: number, group: number): number =>
  group < 4 ? bytes[at + group + 4]! & 63 : (bytes[at + group + 4]! >> 4) | ((bytes[at + group]! >> 6) << 4);
