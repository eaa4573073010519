import { halfPrecisionBytes, widenBF16, widenF16 } from "../../weights/half-precision.js";

/** Little-endian formats in which .pt and .npy files hold numbers. */
export type NumberFormat = "f64" | "f32" | "f16" | "bf16" | "i64" | "i32";

/** Bytes of one number. */
export const BYTES: Readonly<Record<NumberFormat, number>> = { f64: 8, f32: 4, f16: 2, bf16: 2, i64: 8, i32: 4 };

/**
 * Stored numbers as f32, integers too (exact up to 2^24). The result may share `bytes`' memory.
 * @param bytes a whole number of elements
 */
export function toF32(format: NumberFormat, bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const count = bytes.byteLength / BYTES[format];
  const out = () => new Float32Array(count);
  // A typed array needs an aligned start.
  const aligned = bytes.byteOffset % BYTES[format] === 0 ? bytes : bytes.slice();
  switch (format) {
    case "f32":
      return new Float32Array(aligned.buffer, aligned.byteOffset, count);
    case "f64":
      return Float32Array.from(new Float64Array(aligned.buffer, aligned.byteOffset, count));
    case "i32":
      return Float32Array.from(new Int32Array(aligned.buffer, aligned.byteOffset, count));
    case "i64":
      return Float32Array.from(new BigInt64Array(aligned.buffer, aligned.byteOffset, count), Number);
    case "f16":
      return widened(out(), bytes, widenF16);
    case "bf16":
      return widened(out(), bytes, widenBF16);
  }
}

function widened<A extends Float32Array>(out: A, bytes: Uint8Array, widen: (out: Float32Array) => void): A {
  halfPrecisionBytes(out).set(bytes);
  widen(out);
  return out;
}
