import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import koffi from "koffi";
import { SetupError } from "../errors.js";
import { Handle } from "./handle.js";
import { type Backing, Tensor } from "./tensor.js";

const PROT_READ = 1;
const MAP_SHARED = 1;
const MADV_DONTNEED = 4;
const READ_STEP = 64 << 20;

let libc: ReturnType<typeof koffi.load> | undefined;

/** A file in memory. */
export interface MappedFile extends Backing, Disposable {
  /** Gives the pages back that have been read; the next touch reads them again from the system's file cache. */
  forgetPages(): void;
}

/**
 * A file's bytes as read-only memory: mapped where the system can (pages are read when first touched and shared with
 * other processes), else read once.
 * @throws SetupError when the file is not `bytes` long.
 */
export function mapFile(path: string, bytes: number): MappedFile {
  const fd = openSync(path, "r");
  try {
    const found = fstatSync(fd).size;
    if (found !== bytes) throw new SetupError(`${path} has ${found} bytes instead of ${bytes}: remove its folder, it will be made again.`);
    return process.platform === "win32" ? readWhole(fd, bytes) : map(fd, path, bytes);
  } finally {
    closeSync(fd);
  }
}

function map(fd: number, path: string, bytes: number): MappedFile {
  libc ??= koffi.load(null);
  const mmap = libc.func("mmap", "intptr_t", ["void *", "size_t", "int", "int", "int", "int64_t"]);
  const munmap = libc.func("munmap", "int", ["void *", "size_t"]);
  const address: number | bigint = mmap(null, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (BigInt(address) === -1n) throw new SetupError(`${path} could not be mapped into memory (${bytes} bytes).`);
  const madvise = libc.func("madvise", "int", ["void *", "size_t", "int"]);
  const handle = new Handle(path, BigInt(address), (p) => munmap(p, bytes));
  return {
    address: BigInt(address),
    bytes,
    hold: () => handle.hold(),
    letGo: () => handle.letGo(),
    forgetPages: () => madvise(handle.pointer, bytes, MADV_DONTNEED),
    [Symbol.dispose]: () => handle[Symbol.dispose](),
  };
}

function readWhole(fd: number, bytes: number): MappedFile {
  const tensor = Tensor.zeros("uint8", [bytes]);
  const piece = Buffer.allocUnsafe(Math.min(READ_STEP, bytes));
  for (let at = 0; at < bytes; ) {
    const got = readSync(fd, piece, 0, Math.min(piece.length, bytes - at), at);
    if (got === 0) throw new SetupError("a weights file shrank while it was read");
    tensor.write(piece.subarray(0, got), at);
    at += got;
  }
  return { ...tensor.backing(), forgetPages: () => {}, [Symbol.dispose]: () => tensor[Symbol.dispose]() };
}
