/** IEEE 754 binary16 -> the bits of the same number in binary32; exact for every input, payloads of NaN included. */
const F16_BITS = new Uint32Array(65536).map((_, half) => widenedBits(half));

function widenedBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // Subnormal: mantissa * 2^-24 is a normal binary32 number; `shift` brings its leading one to bit 10.
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

/**
 * Where to put the n 16-bit values that `widenF16` and `widenBF16` turn into the n elements of `out`: the upper half of
 * its memory. Going upwards, no value is overwritten before it is read, so no second buffer is needed.
 */
export const halfPrecisionBytes = (out: Float32Array): Uint8Array =>
  new Uint8Array(out.buffer, out.byteOffset + 2 * out.length, 2 * out.length);

/** binary16 -> f32, in place (see `halfPrecisionBytes`). */
export function widenF16(out: Float32Array): void {
  const [halves, bits] = viewsOf(out);
  for (let i = 0; i < bits.length; i++) bits[i] = F16_BITS[halves[i]!]!;
}

/** bfloat16 -> f32, in place (see `halfPrecisionBytes`). */
export function widenBF16(out: Float32Array): void {
  const [halves, bits] = viewsOf(out);
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i]! << 16;
}

const viewsOf = (out: Float32Array): readonly [halves: Uint16Array, bits: Uint32Array] => [
  new Uint16Array(out.buffer, out.byteOffset + 2 * out.length, out.length),
  new Uint32Array(out.buffer, out.byteOffset, out.length),
];
