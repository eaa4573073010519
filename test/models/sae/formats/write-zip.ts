import { writeFileSync } from "node:fs";
import { deflateRawSync } from "node:zlib";

/** What a test may get wrong in an archive. */
export interface Member {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly deflated?: boolean;
  /** Sizes that the directory claims in place of the true ones. */
  readonly claimed?: { readonly compressed?: number; readonly uncompressed?: number };
  readonly flags?: number;
  readonly method?: number;
}

/** Writes a zip archive (APPNOTE.TXT 4.3). */
export function writeZip(path: string, members: readonly Member[]): string {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  const add = (part: Buffer, to: Buffer[] = parts) => {
    to.push(part);
    if (to === parts) at += part.length;
  };
  for (const { name, bytes, deflated = false, claimed, flags = 0, method = deflated ? 8 : 0 } of members) {
    const data = deflated ? deflateRawSync(bytes) : Buffer.from(bytes);
    const [start, file] = [at, Buffer.from(name)];
    const sizes = [crc32(bytes), claimed?.compressed ?? data.length, claimed?.uncompressed ?? bytes.length];
    add(numbers([4, 0x04034b50], [2, 20, flags, method, 0, 0], [4, ...sizes], [2, file.length, 0]));
    add(file);
    add(data);
    const entry = numbers(
      [4, 0x02014b50],
      [2, 20, 20, flags, method, 0, 0],
      [4, ...sizes],
      [2, file.length, 0, 0, 0, 0],
    );
    add(Buffer.concat([entry, numbers([4, 0, start]), file]), directory);
  }
  const central = Buffer.concat(directory);
  const counts = [0, 0, members.length, members.length];
  const end = numbers([4, 0x06054b50], [2, ...counts], [4, central.length, at], [2, 0]);
  writeFileSync(path, Buffer.concat([...parts, central, end]));
  return path;
}

/** Little-endian numbers; the first of each group is their size in bytes. */
function numbers(...groups: readonly (readonly [bytes: 2 | 4, ...values: number[]])[]): Buffer {
  return Buffer.concat(
    groups.flatMap(([bytes, ...values]) =>
      values.map((value) => {
        const buffer = Buffer.alloc(bytes);
        buffer.writeUIntLE(value, 0, bytes);
        return buffer;
      }),
    ),
  );
}

function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
