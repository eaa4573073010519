import { halfPrecisionBytes, widenF16 } from "../weights/half-precision.js";

/**
 * Decodes `blocks` blocks that stand in `bytes` from byte `at` on into `out` from element `to` on. All products of a
 * weight are exact in float64, so that storing it rounds once, as arithmetic in float32 does.
 */
export type BlockDecoder = (bytes: Uint8Array, at: number, blocks: number, out: Float32Array, to: number) => void;

/** The number of every binary16 bit pattern. */
export const F16: Float32Array = (() => {
  const numbers = new Float32Array(65_536);
  const halves = halfPrecisionBytes(numbers);
  const patterns = new Uint16Array(halves.buffer, halves.byteOffset, numbers.length);
  for (let pattern = 0; pattern < patterns.length; pattern++) patterns[pattern] = pattern;
  widenF16(numbers);
  return numbers;
})();

/** The binary16 number at a byte. */
export const f16At = (bytes: Uint8Array, at: number): number => F16[bytes[at]! | (bytes[at + 1]! << 8)]!;

/** The values of IQ4's 4-bit codes. */
export const IQ4_VALUES = Int8Array.of(...[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]);
