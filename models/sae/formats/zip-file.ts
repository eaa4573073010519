import { closeSync } from "node:fs";
import zlib from "node:zlib";
import { type Entry, fromFdPromise, type ZipFile as YauzlFile } from "yauzl";
import { ModelFormatError } from "../../errors.js";
import { openModelFile } from "../../model-file.js";

/** Members of a real file are a dozen. */
const MAX_MEMBERS = 10_000;
/** Weights hardly compress: a large member that grows more than this is a bomb. */
const MAX_GROWTH = 64;
const SMALL_BYTES = 16 * 2 ** 20;

const STORED = 0;
const DEFLATED = 8;

/** An open zip archive; its owner closes it. */
export interface ZipFile extends Disposable {
  /** Names of the members, in the order of the directory; none twice. */
  readonly names: readonly string[];
  /**
   * A member's bytes, their length and (from Node 20.15 on) CRC-32 checked.
   * @throws ModelFormatError if there is no such member or it is damaged, encrypted or suspiciously compressed.
   */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
}

/**
 * Opens a zip archive (stored or deflated members, zip64 too). Memory is taken for what the file can really hold only.
 * @throws ModelFormatError if it is absent, cut off or no zip archive.
 */
export async function openZip(path: string): Promise<ZipFile> {
  const { fd } = openModelFile(path);
  let open = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  try {
    const archive = await fromFdPromise(fd, { autoClose: false });
    const members = new Map<string, Entry>();
    for await (const entry of archive.eachEntry()) {
      if (members.has(entry.fileName)) throw new ModelFormatError(path, `member "${entry.fileName}" occurs twice`);
      if (members.size === MAX_MEMBERS) throw new ModelFormatError(path, "there are too many members in this archive");
      members.set(entry.fileName, entry);
    }
    const read = async (name: string) => {
      const entry = members.get(name);
      if (!entry) throw new ModelFormatError(path, `member "${name}" is missing from this zip archive`);
      return readMember(archive, entry, path);
    };
    return { names: [...members.keys()], read, [Symbol.dispose]: close };
  } catch (error) {
    close();
    throw damaged(path, error);
  }
}

async function readMember(archive: YauzlFile, entry: Entry, path: string): Promise<Uint8Array<ArrayBuffer>> {
  const refuse = (reason: string) => new ModelFormatError(path, `member "${entry.fileName}" ${reason}`);
  const { compressionMethod, compressedSize, uncompressedSize: size } = entry;
  if (entry.isEncrypted()) throw refuse("is encrypted");
  if (compressionMethod !== STORED && compressionMethod !== DEFLATED)
    throw refuse(`is compressed in a way that is not known here (method ${compressionMethod})`);
  if (size > SMALL_BYTES && size > compressedSize * MAX_GROWTH)
    throw refuse(`is said to grow from ${compressedSize} to ${size} bytes, as no weights do`);
  try {
    // Before memory is taken: this checks that the compressed bytes lie in the file.
    const stream = await archive.openReadStreamPromise(entry);
    const bytes = new Uint8Array(size);
    let done = 0;
    for await (const piece of stream) {
      if (!(piece instanceof Uint8Array) || done + piece.length > size) throw refuse("is longer than its entry says");
      bytes.set(piece, done);
      done += piece.length;
    }
    if (done !== size) throw refuse(`has ${done} bytes, but its entry says ${size}`);
    // Node has had crc32 since 20.15.
    if (typeof zlib.crc32 === "function" && zlib.crc32(bytes) !== entry.crc32)
      throw refuse("is damaged: its CRC-32 is another one");
    return bytes;
  } catch (error) {
    throw damaged(path, error, `member "${entry.fileName}"`);
  }
}

function damaged(path: string, error: unknown, what = "the zip archive"): ModelFormatError {
  if (error instanceof ModelFormatError) return error;
  return new ModelFormatError(path, `${what} is damaged: ${error instanceof Error ? error.message : String(error)}`);
}
