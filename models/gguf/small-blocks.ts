import { type BlockDecoder, f16At, IQ4_VALUES } from "./block-decoder.js";

/** Blocks of 32 weights: byte j of the codes has weight j in its low half and weight j + 16 in its high half. */
const WEIGHTS = 32;

/** f16 d, 32 x i8 q: w = d q. */
export const q8_0: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 34, to += WEIGHTS) {
    const d = f16At(bytes, at);
    for (let j = 0; j < WEIGHTS; j++) out[to + j] = d * ((bytes[at + 2 + j]! << 24) >> 24);
  }
};

/** f16 d, 32 x 4 bits q: w = d (q - 8). */
export const q4_0: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 18, to += WEIGHTS) {
    const d = f16At(bytes, at);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 2 + j]!;
      out[to + j] = d * ((codes & 15) - 8);
      out[to + j + 16] = d * ((codes >> 4) - 8);
    }
  }
};

/** f16 d, f16 m, 32 x 4 bits q: w = d q + m. */
export const q4_1: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 20, to += WEIGHTS) {
    const d = f16At(bytes, at);
    const m = f16At(bytes, at + 2);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 4 + j]!;
      out[to + j] = d * (codes & 15) + m;
      out[to + j + 16] = d * (codes >> 4) + m;
    }
  }
};

/** f16 d, 32 high bits, 32 x 4 low bits q: w = d (q - 16). */
export const q5_0: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 22, to += WEIGHTS) {
    const d = f16At(bytes, at);
    const high = u32At(bytes, at + 2);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 6 + j]!;
      out[to + j] = d * (((codes & 15) | (((high >>> j) & 1) << 4)) - 16);
      out[to + j + 16] = d * (((codes >> 4) | (((high >>> (j + 16)) & 1) << 4)) - 16);
    }
  }
};

/** f16 d, f16 m, 32 high bits, 32 x 4 low bits q: w = d q + m. */
export const q5_1: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 24, to += WEIGHTS) {
    const d = f16At(bytes, at);
    const m = f16At(bytes, at + 2);
    const high = u32At(bytes, at + 4);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 8 + j]!;
      out[to + j] = d * ((codes & 15) | (((high >>> j) & 1) << 4)) + m;
      out[to + j + 16] = d * ((codes >> 4) | (((high >>> (j + 16)) & 1) << 4)) + m;
    }
  }
};

/** f16 d, 32 x 4 bits q: w = d IQ4_VALUES[q]. */
export const iq4_nl: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let block = 0; block < blocks; block++, at += 18, to += WEIGHTS) {
    const d = f16At(bytes, at);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 2 + j]!;
      out[to + j] = d * IQ4_VALUES[codes & 15]!;
      out[to + j + 16] = d * IQ4_VALUES[codes >> 4]!;
    }
  }
};

const u32At = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
