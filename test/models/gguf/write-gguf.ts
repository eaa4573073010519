import { writeFileSync } from "node:fs";

/** Numbers of value types and tensor types in the format. */
const TYPES = { uint32: 4, float32: 6, bool: 7, string: 8, array: 9 } as const;
const TENSOR_TYPES = { F32: 0, Q4_0: 2, Q4_1: 3, Q8_0: 8, BF16: 30 } as const;

type Value =
  | boolean
  | string
  | { readonly uint32: number }
  | { readonly float32: number }
  | readonly string[]
  | Float32Array;

/** Data in stored form; `dimensions` row-major. */
export interface WrittenTensor {
  readonly type: keyof typeof TENSOR_TYPES;
  readonly dimensions: readonly number[];
  readonly data: Uint8Array;
}

/** A tensor of f32 values. */
export const f32 = (dimensions: readonly number[], values: Float32Array): WrittenTensor => ({
  type: "F32",
  dimensions,
  data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
});

const number = (bytes: 4 | 8, value: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  if (bytes === 4) buffer.writeUInt32LE(value);
  else buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
};
const float = (value: number): Buffer => {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return buffer;
};
const text = (value: string): Buffer => Buffer.concat([number(8, Buffer.byteLength(value)), Buffer.from(value)]);

function valueBytes(value: Value): Buffer {
  if (typeof value === "boolean") return Buffer.concat([number(4, TYPES.bool), Buffer.of(value ? 1 : 0)]);
  if (typeof value === "string") return Buffer.concat([number(4, TYPES.string), text(value)]);
  if (value instanceof Float32Array)
    return Buffer.concat([
      number(4, TYPES.array),
      number(4, TYPES.float32),
      number(8, value.length),
      ...[...value].map(float),
    ]);
  if ("uint32" in value) return Buffer.concat([number(4, TYPES.uint32), number(4, value.uint32)]);
  if ("float32" in value) return Buffer.concat([number(4, TYPES.float32), float(value.float32)]);
  return Buffer.concat([number(4, TYPES.array), number(4, TYPES.string), number(8, value.length), ...value.map(text)]);
}

/** Writes a GGUF file, version 3, data aligned to 32 bytes. */
export function writeGguf(
  path: string,
  metadata: Readonly<Record<string, Value>>,
  tensors: Readonly<Record<string, WrittenTensor>> = {},
): string {
  const parts: Buffer[] = [Buffer.from("GGUF"), number(4, 3), number(8, Object.keys(tensors).length)];
  parts.push(number(8, Object.keys(metadata).length));
  for (const [key, value] of Object.entries(metadata)) parts.push(text(key), valueBytes(value));
  let offset = 0;
  const padded = (bytes: number) => Math.ceil(bytes / 32) * 32;
  for (const [name, { type, dimensions, data }] of Object.entries(tensors)) {
    parts.push(text(name), number(4, dimensions.length), ...dimensions.toReversed().map((size) => number(8, size)));
    parts.push(number(4, TENSOR_TYPES[type]), number(8, offset));
    offset += padded(data.length);
  }
  const header = Buffer.concat(parts);
  const data = Object.values(tensors).flatMap((tensor) => [
    tensor.data,
    Buffer.alloc(padded(tensor.data.length) - tensor.data.length),
  ]);
  writeFileSync(path, Buffer.concat([header, Buffer.alloc(padded(header.length) - header.length), ...data]));
  return path;
}
