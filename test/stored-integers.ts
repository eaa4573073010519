import { readFileSync } from "node:fs";
import { openSafetensors } from "../models/weights/safetensors.js";

/** A tensor of whole numbers (I32 or I64) in a safetensors file. */
export function storedIntegers(path: string, name: string): number[] {
  using file = openSafetensors(path);
  const entry = file.tensors.get(name);
  if (entry?.dtype !== "I32" && entry?.dtype !== "I64") throw new Error(`${path} has no integers ${name}`);
  const bytes = readFileSync(path).subarray(entry.byteOffset, entry.byteOffset + entry.byteLength);
  return entry.dtype === "I32"
    ? Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i))
    : Array.from({ length: bytes.length / 8 }, (_, i) => Number(bytes.readBigInt64LE(8 * i)));
}
