import { closeSync } from "node:fs";
import { openModelFile } from "../model-file.js";
import { HeaderReader } from "./header-reader.js";
import { type Metadata, readMetadata } from "./metadata.js";
import { readTensorInfos, type TensorInfo } from "./tensor-infos.js";

/** "GGUF" in little-endian bytes. */
const MAGIC = 0x46554747;
const VERSIONS: readonly number[] = [2, 3];
const DEFAULT_ALIGNMENT = 32;

/** What a GGUF file says about itself. */
export interface GgufHeader {
  readonly path: string;
  /** Bytes of the whole file. */
  readonly size: number;
  readonly metadata: Metadata;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/**
 * Reads metadata and tensor list of a GGUF file, version 2 or 3, little-endian; the tensors' data is not touched.
 * Format: github.com/ggml-org/ggml, docs/gguf.md.
 * @throws ModelFormatError saying what is wrong, naming key or tensor; nothing is allocated that the file does not hold.
 */
export function readGgufHeader(path: string): GgufHeader {
  const { fd, size } = openModelFile(path);
  try {
    const reader = new HeaderReader(fd, size, path);
    checkVersion(reader);
    const tensorCount = reader.u64("the counts of the header");
    const metadata = readMetadata(reader, reader.u64("the counts of the header"));
    return { path, size, metadata, tensors: readTensorInfos(reader, tensorCount, alignmentOf(reader, metadata)) };
  } finally {
    closeSync(fd);
  }
}

function checkVersion(reader: HeaderReader): void {
  const magic = reader.u32("the magic");
  if (magic !== MAGIC) throw reader.refuse("this is no GGUF file: it does not begin with the magic bytes GGUF");
  const version = reader.u32("the version");
  if (VERSIONS.includes(version)) return;
  if (version !== 0 && (version & 0xffff) === 0)
    throw reader.refuse("this is a big-endian GGUF file; only little-endian ones are read");
  throw reader.refuse(`this is GGUF version ${version}; the versions known here are ${VERSIONS.join(" and ")}`);
}

function alignmentOf(reader: HeaderReader, metadata: Metadata): number {
  const found = metadata.get("general.alignment");
  if (found === undefined) return DEFAULT_ALIGNMENT;
  const must = "it must be a uint32, a power of two";
  if (found.type !== "uint32") throw reader.refuse(`general.alignment is of type ${found.type}, but ${must}`);
  const { value } = found;
  if (value === 0 || (value & (value - 1)) !== 0) throw reader.refuse(`general.alignment is ${value}, but ${must}`);
  return value;
}
