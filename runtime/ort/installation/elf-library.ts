import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** What a shared library says to the dynamic loader (System V ABI, chapter 5; versions: Linux Standard Base, 10.7). */
export interface ElfLibrary {
  readonly soname: string | null;
  /** Libraries that it is linked against, by soname. */
  readonly needed: readonly string[];
  /** Versions that it gives its symbols. */
  readonly versions: readonly string[];
}

/** A file that the dynamic loader of this machine would not take for a shared library. */
export class ElfError extends Error {
  override readonly name = "ElfError";
  constructor(
    readonly file: string,
    readonly reason: string,
  ) {
    super(`${file} ${reason}`);
  }
}

const HEADER_BYTES = 64;
const SEGMENT_BYTES = 56;
const ENTRY_BYTES = 16;
const VERSION_BYTES = 20;
/** Far more than any library has; a file that says more is broken. */
const MOST_ENTRIES = 4096;
const LONGEST_NAME = 4096;

const MACHINE: Record<string, number> = { x64: 62, arm64: 183 };
const SHARED_LIBRARY = 3;
const SEGMENT = { load: 1, dynamic: 2 };
const TAG = { end: 0, needed: 1, names: 5, namesBytes: 10, soname: 14, versions: 0x6ffffffc, versionCount: 0x6ffffffd };
const VERSION_OF_FILE = 1;

/** Bytes of the file; refuses what is not all in it. */
type Read = (offset: number, bytes: number) => Buffer;

/** A piece of the file that is loaded at an address. */
interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly bytes: number;
}

/** Reads a few hundred bytes, however large the file is, and loads nothing. @throws ElfError with the file and what is wrong. */
export function readElfLibrary(path: string): ElfLibrary {
  const fd = opened(path);
  try {
    const size = fstatSync(fd).size;
    const read: Read = (offset, bytes) => {
      if (!(Number.isSafeInteger(offset) && offset >= 0 && offset + bytes <= size))
        throw new ElfError(path, "is cut off");
      const piece = Buffer.alloc(bytes);
      if (readSync(fd, piece, 0, bytes, offset) !== bytes) throw new ElfError(path, "is cut off");
      return piece;
    };
    return readDynamic(path, read, readSegments(path, read, size));
  } catch (error) {
    if (error instanceof ElfError) throw error;
    throw new ElfError(path, `cannot be read: ${messageOf(error)}`);
  } finally {
    closeSync(fd);
  }
}

function opened(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    throw new ElfError(path, `cannot be read: ${messageOf(error)}`);
  }
}

function readSegments(path: string, read: Read, size: number): Segment[] {
  if (size < HEADER_BYTES || read(0, 4).toString("latin1") !== "\x7fELF") throw new ElfError(path, "is no ELF file");
  const header = read(0, HEADER_BYTES);
  const ours = header[4] === 2 && header[5] === 1 && header.readUInt16LE(18) === MACHINE[process.arch];
  if (!ours) throw new ElfError(path, `is built for another machine than ${process.arch}`);
  if (header.readUInt16LE(16) !== SHARED_LIBRARY) throw new ElfError(path, "is no shared library");
  const [at, bytes, count] = [u64(header, 32), header.readUInt16LE(54), header.readUInt16LE(56)];
  if (bytes !== SEGMENT_BYTES || count > MOST_ENTRIES) throw new ElfError(path, "has a broken table of segments");
  const table = read(at, bytes * count);
  return Array.from({ length: count }, (_, i) => {
    const entry = table.subarray(i * bytes, (i + 1) * bytes);
    return {
      type: entry.readUInt32LE(0),
      offset: u64(entry, 8),
      address: u64(entry, 16),
      bytes: u64(entry, 32),
    };
  });
}

function readDynamic(path: string, read: Read, segments: readonly Segment[]): ElfLibrary {
  const dynamic = segments.find(({ type }) => type === SEGMENT.dynamic);
  if (dynamic === undefined) throw new ElfError(path, "is no shared library");
  const entries = readEntries(path, read, dynamic);
  const first = (tag: number): number | undefined => entries.find((entry) => entry.tag === tag)?.value;
  const offsetOf = (address: number): number => {
    const segment = segments.find(
      ({ type, address: from, bytes }) => type === SEGMENT.load && address >= from && address < from + bytes,
    );
    if (segment === undefined) throw new ElfError(path, "has a table outside of the file");
    return segment.offset + address - segment.address;
  };
  const names = { at: first(TAG.names), bytes: first(TAG.namesBytes) ?? 0 };
  const nameAt = (index: number): string => {
    const rest = Math.min(LONGEST_NAME, names.bytes - index);
    if (names.at === undefined || !(rest > 0)) throw new ElfError(path, "has a name outside of its table");
    const text = read(offsetOf(names.at) + index, rest);
    const end = text.indexOf(0);
    if (end < 0) throw new ElfError(path, "has a name without an end");
    return text.toString("utf8", 0, end);
  };
  const soname = first(TAG.soname);
  const versions = first(TAG.versions);
  return {
    soname: soname === undefined ? null : nameAt(soname),
    needed: entries.filter(({ tag }) => tag === TAG.needed).map(({ value }) => nameAt(value)),
    versions:
      versions === undefined ? [] : readVersions(read, offsetOf(versions), first(TAG.versionCount) ?? 0, nameAt),
  };
}

function readEntries(path: string, read: Read, { offset, bytes }: Segment): { tag: number; value: number }[] {
  if (bytes / ENTRY_BYTES > MOST_ENTRIES) throw new ElfError(path, "has a broken dynamic section");
  const table = read(offset, bytes);
  const entries: { tag: number; value: number }[] = [];
  for (let at = 0; at + ENTRY_BYTES <= bytes; at += ENTRY_BYTES) {
    const tag = u64(table, at);
    if (tag === TAG.end) break;
    entries.push({ tag, value: u64(table, at + 8) });
  }
  return entries;
}

function readVersions(read: Read, at: number, count: number, nameAt: (index: number) => string): string[] {
  const names: string[] = [];
  for (let left = Math.min(count, MOST_ENTRIES), offset = at; left > 0; left--) {
    const version = read(offset, VERSION_BYTES);
    const flags = version.readUInt16LE(2);
    if ((flags & VERSION_OF_FILE) === 0) names.push(nameAt(read(offset + version.readUInt32LE(12), 4).readUInt32LE(0)));
    const next = version.readUInt32LE(16);
    if (next === 0) break;
    offset += next;
  }
  return names;
}

/** Exact below 2^53; no file has offsets above, and a rounded one is refused as outside of it. */
const u64 = (bytes: Buffer, at: number): number => Number(bytes.readBigUInt64LE(at));

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
