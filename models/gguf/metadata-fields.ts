import { ModelFormatError } from "../errors.js";
import type { GgufArray, GgufValue, Metadata } from "./metadata.js";

/** `absent` is what a key that is not there gives; without it, such a key is an error. */
export interface MetadataFields {
  readonly file: string;
  has(key: string): boolean;
  text<A extends string | null = never>(key: string, absent?: A): string | A;
  flag<A extends boolean | null = never>(key: string, absent?: A): boolean | A;
  /** Of any integer type. */
  whole<A extends number | null = never>(key: string, range: WholeRange, absent?: A): number | A;
  /** A finite number above 0. */
  positive<A extends number | null = never>(key: string, absent?: A): number | A;
  texts<A extends null = never>(key: string, absent?: A): readonly string[] | A;
  /** An array of numbers of at most 32 bits. */
  numbers<A extends null = never>(key: string, absent?: A): ArrayLike<number> | A;
  /** The error for a key: `KEY is VALUE, but <must>`. */
  refuse(key: string, must: string): ModelFormatError;
}

/** Limits, both included, and why, if there is more to say than the numbers. */
export interface WholeRange {
  readonly min: number;
  readonly max: number;
  readonly must?: string;
}

const INTEGERS: readonly string[] = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"];

/**
 * Reads single keys of a GGUF file's metadata.
 * @throws ModelFormatError, in all of them, naming key, value and what it must be.
 */
export function metadataFields(file: string, metadata: Metadata): MetadataFields {
  const refuse = (key: string, must: string) => {
    const value = metadata.get(key);
    return new ModelFormatError(
      file,
      value ? `${key} is ${shown(value)}, but ${must}` : `${key} is absent, but ${must}`,
    );
  };
  const find = <T, A>(
    key: string,
    must: string,
    absent: A | undefined,
    read: (value: GgufValue) => T | undefined,
  ): T | A => {
    const value = metadata.get(key);
    if (value === undefined && absent !== undefined) return absent;
    const found = value && read(value);
    if (found === undefined) throw refuse(key, must);
    return found;
  };
  return {
    file,
    has: (key) => metadata.has(key),
    refuse,
    text: (key, absent) =>
      find(key, "it must be a string", absent, (value) => (value.type === "string" ? value.value : undefined)),
    flag: (key, absent) =>
      find(key, "it must be a bool", absent, (value) => (value.type === "bool" ? value.value : undefined)),
    whole: (key, { min, max, must }, absent) =>
      find(key, must ?? `it must be a whole number from ${min} to ${max}`, absent, (value) => {
        const number = INTEGERS.includes(value.type) ? Number(value.value) : Number.NaN;
        return number >= min && number <= max ? number : undefined;
      }),
    positive: (key, absent) =>
      find(key, "it must be a number above 0", absent, ({ value }) =>
        typeof value === "number" && value > 0 && Number.isFinite(value) ? value : undefined,
      ),
    texts: (key, absent) =>
      find(key, "it must be an array of strings", absent, (value) =>
        value.type === "array" && value.of === "string" ? value.value : undefined,
      ),
    numbers: (key, absent) =>
      find(key, "it must be an array of numbers", absent, (value) =>
        value.type === "array" ? numbersOf(value) : undefined,
      ),
  };
}

function numbersOf(array: GgufArray): ArrayLike<number> | undefined {
  switch (array.of) {
    case "uint8":
    case "int8":
    case "uint16":
    case "int16":
    case "uint32":
    case "int32":
    case "float32":
      return array.value;
    default:
      return undefined;
  }
}

function shown(value: GgufValue): string {
  if (value.type === "array") return `an array of ${value.value.length} ${value.of} values`;
  if (value.type !== "string") return `${value.value} (${value.type})`;
  const quoted = JSON.stringify(value.value);
  return quoted.length > 80 ? `${quoted.slice(0, 80)}...` : quoted;
}
