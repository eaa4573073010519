import { type BlockDecoder, F16 } from "./block-decoder.js";
import { iq4_xs, q2_k, q3_k, q4_k, q5_k, q6_k } from "./k-blocks.js";
import { iq4_nl, q4_0, q4_1, q5_0, q5_1, q8_0 } from "./small-blocks.js";

const f16: BlockDecoder = (bytes, at, blocks, out, to) => {
  for (let i = 0; i < blocks; i++) out[to + i] = F16[bytes[at + 2 * i]! | (bytes[at + 2 * i + 1]! << 8)]!;
};

const bf16: BlockDecoder = (bytes, at, blocks, out, to) => {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < blocks; i++) bits[to + i] = (bytes[at + 2 * i]! << 16) | (bytes[at + 2 * i + 1]! << 24);
};

const f32: BlockDecoder = (bytes, at, blocks, out, to) => {
  const target = new Uint8Array(out.buffer, out.byteOffset + 4 * to, 4 * blocks);
  target.set(bytes.subarray(at, at + 4 * blocks));
};

/** How a type is decoded, and at which bytes of a block its f16 numbers stand (none where all of it is numbers). */
export interface Decoder {
  readonly decode: BlockDecoder;
  readonly halves: readonly number[];
}

const decoder = (decode: BlockDecoder, ...halves: number[]): Decoder => ({ decode, halves });

/** By the name of the tensor type; types that are not here cannot be weights. */
export const DECODERS: ReadonlyMap<string, Decoder> = new Map([
  ["F32", decoder(f32)],
  ["F16", decoder(f16)],
  ["BF16", decoder(bf16)],
  ["Q8_0", decoder(q8_0, 0)],
  ["Q4_0", decoder(q4_0, 0)],
  ["Q4_1", decoder(q4_1, 0, 2)],
  ["Q5_0", decoder(q5_0, 0)],
  ["Q5_1", decoder(q5_1, 0, 2)],
  ["Q2_K", decoder(q2_k, 80, 82)],
  ["Q3_K", decoder(q3_k, 108)],
  ["Q4_K", decoder(q4_k, 0, 2)],
  ["Q5_K", decoder(q5_k, 0, 2)],
  ["Q6_K", decoder(q6_k, 208)],
  ["IQ4_NL", decoder(iq4_nl, 0)],
  ["IQ4_XS", decoder(iq4_xs, 0)],
]);

/** Whether every f16 number of whole blocks is finite; then every weight is. */
export function finiteBlocks({ halves }: Decoder, blockBytes: number, stored: Uint8Array): boolean {
  for (const half of halves)
    for (let at = half + 1; at < stored.length; at += blockBytes) if ((stored[at]! & 0x7c) === 0x7c) return false;
  return true;
}
