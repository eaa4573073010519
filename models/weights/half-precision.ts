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

/** Rounds f32 to the nearest binary16, ties to even; beyond 65,504 that is infinity, and NaN stays NaN. */
export function narrowF16(values: Float32Array, out: Uint16Array): void {
  const bits = bitsOf(values);
  for (let i = 0; i < bits.length; i++) out[i] = f16Of(bits[i]!);
}

/** Rounds f32 to the nearest bfloat16, ties to even; NaN stays NaN. */
export function narrowBF16(values: Float32Array, out: Uint16Array): void {
  const bits = bitsOf(values);
  for (let i = 0; i < bits.length; i++) out[i] = bf16Of(bits[i]!);
}

/** Whether rounding to binary16 makes infinity of none of these numbers. */
export function fitsF16(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (Math.abs(values[i]!) >= 65520) return false;
  return true;
}

function f16Of(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00 | ((size >> 13) & 0x3ff);
  if (size >= 0x477ff000) return sign | 0x7c00; // 65,520 and more
  if (size >= 0x38800000) return sign | ((size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13);
  if (size <= 0x33000000) return sign; // 2^-25 and less
  // Subnormal: in units of 2^-24.
  const shift = 126 - (size >> 23);
  const mantissa = (size & 0x7fffff) | 0x800000;
  const half = mantissa >> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (rest > tie || (rest === tie && half & 1) ? half + 1 : half);
}

function bf16Of(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

const bitsOf = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length);

const viewsOf = (out: Float32Array): readonly [halves: Uint16Array, bits: Uint32Array] => [
  new Uint16Array(out.buffer, out.byteOffset + 2 * out.length, out.length),
  new Uint32Array(out.buffer, out.byteOffset, out.length),
];
