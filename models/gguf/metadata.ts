import type { HeaderReader } from "./header-reader.js";

/** Longest key that the format allows, bytes. */
const MAX_KEY_BYTES = 65_535;
/** Entries of a file; real ones have up to a hundred. */
const MAX_ENTRIES = 2n ** 16n;
/** Arrays within arrays; nobody writes more than two. */
const MAX_DEPTH = 8;
/** A key of one byte with a value of one byte: u64 length, text, u32 type, value. */
const MIN_ENTRY_BYTES = 8 + 1 + 4 + 1;

type NumberType = "uint8" | "int8" | "uint16" | "int16" | "uint32" | "int32" | "float32" | "float64";
type BigType = "uint64" | "int64";
/** All value types of the format. */
export type ValueType = NumberType | BigType | "bool" | "string" | "array";

/** An array of a GGUF file; a bool in it is a byte, 0 or 1. */
export type GgufArray = { readonly type: "array" } & (
  | { readonly of: "string"; readonly value: readonly string[] }
  | { readonly of: "array"; readonly value: readonly GgufArray[] }
  | { readonly of: NumberType | "bool"; readonly value: ArrayLike<number> }
  | { readonly of: BigType; readonly value: ArrayLike<bigint> }
);

/** A value of a GGUF file, as it is written there: 64-bit integers are never rounded. */
export type GgufValue =
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: NumberType; readonly value: number }
  | { readonly type: BigType; readonly value: bigint }
  | GgufArray;

/** By key, in the file's order. */
export type Metadata = ReadonlyMap<string, GgufValue>;

/** By the numbers that the format gives them. */
const TYPES: readonly ValueType[] = [
  "uint8",
  "int8",
  "uint16",
  "int16",
  "uint32",
  "int32",
  "float32",
  "bool",
  "string",
  "array",
  "uint64",
  "int64",
  "float64",
];

/** What one element of an array takes at least, bytes: a string has a length, an array a type and a length. */
const MIN_BYTES: Readonly<Record<ValueType, number>> = {
  uint8: 1,
  int8: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  float32: 4,
  bool: 1,
  string: 8,
  array: 12,
  uint64: 8,
  int64: 8,
  float64: 8,
};

/** @throws ModelFormatError if there cannot be so many entries in the file, naming the key of a broken one. */
export function readMetadata(reader: HeaderReader, count: bigint): Metadata {
  const left = reader.size - reader.position;
  if (count * BigInt(MIN_ENTRY_BYTES) > BigInt(left))
    throw reader.refuse(`the header promises ${count} metadata entries, but only ${left} bytes are left of the file`);
  if (count > MAX_ENTRIES) throw reader.refuse(`the header promises ${count} metadata entries, more than any real one`);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < Number(count); i++) {
    const key = reader.strictText(`the key of metadata entry ${i}`, MAX_KEY_BYTES);
    if (key === "") throw reader.refuse(`the key of metadata entry ${i} is empty`);
    const what = key.length > 100 ? `${key.slice(0, 100)}...` : key;
    if (metadata.has(key)) throw reader.refuse(`the metadata key ${what} occurs twice`);
    metadata.set(key, readValue(reader, readType(reader, what), what));
  }
  return metadata;
}

function readType(reader: HeaderReader, what: string): ValueType {
  const number = reader.u32(what);
  const type = TYPES[number];
  if (type === undefined) throw reader.refuse(`${what} has the unknown value type ${number}`);
  return type;
}

function readValue(reader: HeaderReader, type: ValueType, what: string): GgufValue {
  switch (type) {
    case "uint8":
      return { type, value: reader.u8(what) };
    case "int8":
      return { type, value: reader.i8(what) };
    case "uint16":
      return { type, value: reader.u16(what) };
    case "int16":
      return { type, value: reader.i16(what) };
    case "uint32":
      return { type, value: reader.u32(what) };
    case "int32":
      return { type, value: reader.i32(what) };
    case "float32":
      return { type, value: reader.f32(what) };
    case "float64":
      return { type, value: reader.f64(what) };
    case "uint64":
      return { type, value: reader.u64(what) };
    case "int64":
      return { type, value: reader.i64(what) };
    case "bool": {
      const byte = reader.u8(what);
      if (byte > 1) throw reader.refuse(`${what} is a bool of ${byte}, but it must be 0 or 1`);
      return { type, value: byte === 1 };
    }
    case "string":
      return { type, value: reader.text(what) };
    case "array":
      return readArray(reader, what, 1);
  }
}

function readArray(reader: HeaderReader, what: string, depth: number): GgufArray {
  if (depth > MAX_DEPTH) throw reader.refuse(`${what} has arrays nested deeper than ${MAX_DEPTH}`);
  const of = readType(reader, what);
  const length = reader.count(what, "elements", MIN_BYTES[of]);
  const filled = <T extends NodeJS.TypedArray>(array: T): T => {
    reader.fill(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), what);
    return array;
  };
  switch (of) {
    case "uint8":
      return { type: "array", of, value: filled(new Uint8Array(length)) };
    case "int8":
      return { type: "array", of, value: filled(new Int8Array(length)) };
    case "uint16":
      return { type: "array", of, value: filled(new Uint16Array(length)) };
    case "int16":
      return { type: "array", of, value: filled(new Int16Array(length)) };
    case "uint32":
      return { type: "array", of, value: filled(new Uint32Array(length)) };
    case "int32":
      return { type: "array", of, value: filled(new Int32Array(length)) };
    case "float32":
      return { type: "array", of, value: filled(new Float32Array(length)) };
    case "float64":
      return { type: "array", of, value: filled(new Float64Array(length)) };
    case "uint64":
      return { type: "array", of, value: filled(new BigUint64Array(length)) };
    case "int64":
      return { type: "array", of, value: filled(new BigInt64Array(length)) };
    case "bool": {
      const value = filled(new Uint8Array(length));
      const wrong = value.find((byte) => byte > 1);
      if (wrong !== undefined) throw reader.refuse(`${what} has a bool of ${wrong}, but it must be 0 or 1`);
      return { type: "array", of, value };
    }
    case "string": {
      const value: string[] = [];
      for (let i = 0; i < length; i++) value.push(reader.text(what));
      return { type: "array", of, value };
    }
    case "array": {
      const value: GgufArray[] = [];
      for (let i = 0; i < length; i++) value.push(readArray(reader, what, depth + 1));
      return { type: "array", of, value };
    }
  }
}
