import { writeSync } from "node:fs";
import type { WeightPlace } from "../onnx/graph.js";
import { narrowBF16, narrowF16 } from "./half-precision.js";

/** Writes numbers into a place of the file `fd`, from element `at` of it on, rounded to nearest even in its type; int8: whole numbers already. */
export function placeWriter(fd: number, { type, offset }: WeightPlace): (values: Float32Array, at: number) => void {
  if (type === "int8") return (values, at) => writeFully(fd, Int8Array.from(values), offset + at);
  if (type !== "float16" && type !== "bfloat16") return (values, at) => writeFully(fd, values, offset + 4 * at);
  const narrow = type === "float16" ? narrowF16 : narrowBF16;
  let halves = new Uint16Array(0);
  return (values, at) => {
    if (halves.length < values.length) halves = new Uint16Array(values.length);
    const rounded = halves.subarray(0, values.length);
    narrow(values, rounded);
    writeFully(fd, rounded, offset + 2 * at);
  };
}

/** Writes an array's bytes from byte `offset` of a file on. */
export function writeFully(
  fd: number,
  values: Float32Array | Uint16Array | Uint8Array | Int8Array,
  offset: number,
): void {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}
