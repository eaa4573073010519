/** What a shared library is to say, or to do. */
export interface ElfContents {
  readonly soname?: string;
  readonly needed?: readonly string[];
  readonly versions?: readonly string[];
  /** Machine code by symbol. */
  readonly functions?: Readonly<Record<string, Buffer>>;
}

const MACHINE = { x64: 62, arm64: 183 };
const PAGE = 0x1000;

/**
 * A shared library for this machine, small but whole: the system's loader takes it. Tables and code are in one segment,
 * the dynamic section, which the loader writes to, is in another.
 */
export function elfFile({ soname, needed = [], versions = [], functions = {} }: ElfContents): Buffer {
  const names = new Names();
  const entries: [tag: number, value: number][] = needed.map((name) => [1, names.at(name)]);
  if (soname !== undefined) entries.push([14, names.at(soname)]);

  const pieces: Buffer[] = [Buffer.alloc(64 + 3 * 56)];
  const place = (piece: Buffer): number => {
    const at = pieces.reduce((sum, { length }) => sum + length, 0);
    pieces.push(piece, Buffer.alloc((8 - (piece.length % 8)) % 8));
    return at;
  };
  if (versions.length > 0) {
    const all = [soname ?? "", ...versions].map((name, i) => versionOf(names.at(name), i === 0, i === versions.length));
    entries.push([0x6ffffffc, place(Buffer.concat(all))], [0x6ffffffd, all.length]);
  }
  const symbols = Object.entries(functions).map(([name, code]) => symbolOf(names.at(name), place(code), code.length));
  entries.push([6, place(Buffer.concat([Buffer.alloc(24), ...symbols]))], [11, 24]);
  entries.push([4, place(hashOf(symbols.length))]);
  entries.push([5, place(names.table())], [10, names.table().length], [0, 0]);

  const dynamic = Buffer.concat(entries.map(([tag, value]) => u64(tag, value)));
  const tables = Buffer.concat(pieces);
  const at = Math.ceil(tables.length / PAGE) * PAGE;
  headerOf().copy(tables);
  segmentOf(1, 5, 0, tables.length).copy(tables, 64);
  segmentOf(1, 6, at, dynamic.length).copy(tables, 64 + 56);
  segmentOf(2, 6, at, dynamic.length).copy(tables, 64 + 2 * 56);
  return Buffer.concat([tables, Buffer.alloc(at - tables.length), dynamic]);
}

class Names {
  #text = "\0";
  at(name: string): number {
    const at = Buffer.byteLength(this.#text);
    this.#text += `${name}\0`;
    return at;
  }
  table(): Buffer {
    return Buffer.from(this.#text);
  }
}

function headerOf(): Buffer {
  const header = Buffer.alloc(64);
  header.write("\x7fELF\x02\x01\x01", "latin1");
  header.writeUInt16LE(3, 16); // shared library
  header.writeUInt16LE(process.arch === "arm64" ? MACHINE.arm64 : MACHINE.x64, 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(64n, 32); // segments follow
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(3, 56);
  return header;
}

function segmentOf(type: number, flags: number, at: number, bytes: number): Buffer {
  const segment = Buffer.alloc(8);
  segment.writeUInt32LE(type, 0);
  segment.writeUInt32LE(flags, 4);
  return Buffer.concat([segment, u64(at, at, at, bytes, bytes, PAGE)]);
}

function versionOf(name: number, ofTheFile: boolean, last: boolean): Buffer {
  const version = Buffer.alloc(28);
  version.writeUInt16LE(1, 0);
  version.writeUInt16LE(ofTheFile ? 1 : 0, 2);
  version.writeUInt16LE(1, 6);
  version.writeUInt32LE(20, 12); // its name follows
  version.writeUInt32LE(last ? 0 : 28, 16);
  version.writeUInt32LE(name, 20);
  return version;
}

function symbolOf(name: number, at: number, bytes: number): Buffer {
  const symbol = Buffer.alloc(8);
  symbol.writeUInt32LE(name, 0);
  symbol[4] = 0x12; // a global function
  symbol.writeUInt16LE(1, 6);
  return Buffer.concat([symbol, u64(at, bytes)]);
}

/** A table with one chain of all symbols. */
function hashOf(symbols: number): Buffer {
  const chain = Array.from({ length: symbols }, (_, i) => (i + 1 < symbols ? i + 2 : 0));
  const words = Uint32Array.from([1, symbols + 1, symbols > 0 ? 1 : 0, 0, ...chain]);
  return Buffer.from(words.buffer);
}

function u64(...values: number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), 8 * i);
  return bytes;
}
