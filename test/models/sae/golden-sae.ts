import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { writeSafetensors } from "../weights/write-safetensors.js";

export const GOLDEN = join("test", "golden", "sae");

/** The folders below `folder` that hold expected.safetensors, as paths from the repository's root. */
export const goldenSaes = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith("expected.safetensors"))
    .map((file) => join(folder, file, ".."))
    .sort();

/** A float tensor of a folder's expected.safetensors. */
export function expected(folder: string, name: string): Float32Array {
  using file = openSafetensors(join(folder, "expected.safetensors"));
  return file.readF32(name);
}

/** An I32 tensor of a folder's expected.safetensors. */
export function expectedIntegers(folder: string, name: string): Int32Array {
  const path = join(folder, "expected.safetensors");
  using file = openSafetensors(path);
  const entry = file.tensors.get(name);
  if (entry?.dtype !== "I32") throw new Error(`${path} has no I32 tensor ${name}`);
  const values = new Int32Array(entry.byteLength / 4);
  const fd = openSync(path, "r");
  readSync(fd, values, 0, entry.byteLength, entry.byteOffset);
  closeSync(fd);
  return values;
}

/** Writes a safetensors file of F32 tensors. */
export function writeF32(
  path: string,
  tensors: Readonly<Record<string, [shape: number[], values: Float32Array]>>,
): void {
  let end = 0;
  const header = Object.entries(tensors).map(([name, [shape, values]]) => {
    const begin = end;
    end += values.byteLength;
    return [name, { dtype: "F32", shape, data_offsets: [begin, end] }];
  });
  const data = Object.values(tensors).map(([, { buffer, byteOffset, byteLength }]) =>
    Buffer.from(buffer, byteOffset, byteLength),
  );
  writeSafetensors(path, Object.fromEntries(header), Buffer.concat(data));
}
