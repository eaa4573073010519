import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { SetupError } from "../contract/errors.js";
import type { Pointer } from "./api.js";
import { copyMemory, openLibrary } from "./c-library.js";
import { Handle } from "./handle.js";
import type { Backing } from "./memory.js";
import { Tensor } from "./tensor.js";

const PROT_READ = 1;
const MAP_SHARED = 1;
const MADV_RANDOM = 1;
const MADV_DONTNEED = 4;
/** Below this many bytes a thread costs more memory than it saves. */
const WORTH_A_THREAD = 64 << 20;
/** How long the thread may take to end; far more than it needs. */
const ENDS_WITHIN_MS = 2_000;
const READ_STEP = 64 << 20;

interface Mapping {
  mmap(at: null, bytes: number, protection: number, flags: number, fd: number, offset: number): number | bigint;
  munmap(address: Pointer, bytes: number): number;
  madvise(address: Pointer, bytes: number, advice: number): number;
}

let functions: Mapping | undefined;

/** A file in memory. */
export interface MappedFile extends Backing, Disposable {
  /** Gives the pages back that have been read; the next touch reads them, and no others, again from the system's file cache. */
  forgetPages(): void;
  /** The same again and again until it is disposed: for as long as native code reads the whole file once. */
  forgetting(): Disposable;
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
    if (found !== bytes) {
      throw new SetupError(`${path} has ${found} bytes instead of ${bytes}: remove its folder, it will be made again.`);
    }
    return process.platform === "win32" ? readWhole(fd, path, bytes) : map(fd, path, bytes);
  } finally {
    closeSync(fd);
  }
}

function map(fd: number, path: string, bytes: number): MappedFile {
  const { mmap, munmap, madvise } = mapping();
  const address = BigInt(mmap(null, bytes, PROT_READ, MAP_SHARED, fd, 0));
  if (address === -1n) throw new SetupError(`${path} could not be mapped into memory (${bytes} bytes).`);
  const handle = new Handle(path, address, (p) => munmap(p, bytes));
  return {
    address,
    bytes,
    writable: false,
    hold: () => handle.hold(),
    letGo: () => handle.letGo(),
    forgetPages: () => {
      madvise(handle.pointer, bytes, MADV_DONTNEED);
      madvise(handle.pointer, bytes, MADV_RANDOM);
    },
    forgetting: () => startForgetting(address, bytes),
    [Symbol.dispose]: () => handle[Symbol.dispose](),
  };
}

function mapping(): Mapping {
  if (functions === undefined) {
    const library = openLibrary(null);
    functions = {
      mmap: library.func("mmap", "intptr_t", ["void *", "size_t", "int", "int", "int", "int64_t"]),
      munmap: library.func("munmap", "int", ["void *", "size_t"]),
      madvise: library.func("madvise", "int", ["void *", "size_t", "int"]),
    };
  }
  return functions;
}

function readWhole(fd: number, path: string, bytes: number): MappedFile {
  const tensor = Tensor.zeros("uint8", [bytes]);
  const backing = tensor.backing();
  try {
    const piece = Buffer.allocUnsafe(Math.min(READ_STEP, bytes));
    for (let at = 0; at < bytes; ) {
      const got = readSync(fd, piece, 0, Math.min(piece.length, bytes - at), at);
      if (got === 0) throw new SetupError(`${path} became shorter while it was read`);
      copyMemory(backing.address + BigInt(at), piece, got);
      at += got;
    }
  } catch (error) {
    tensor[Symbol.dispose]();
    throw error;
  }
  return {
    ...backing,
    writable: false,
    forgetPages: () => {},
    forgetting: nothing,
    [Symbol.dispose]: () => tensor[Symbol.dispose](),
  };
}

const nothing = (): Disposable => ({ [Symbol.dispose]: () => {} });

function startForgetting(address: bigint, bytes: number): Disposable {
  if (bytes < WORTH_A_THREAD) return nothing();
  const done = new Int32Array(new SharedArrayBuffer(4));
  const thread = new Worker(new URL("./page-forgetter.js", import.meta.url), { workerData: { address, bytes, done } });
  thread.on("error", () => Atomics.store(done, 0, 2)); // the pages stay until forgetPages
  thread.unref();
  return {
    [Symbol.dispose]: () => {
      if (Atomics.compareExchange(done, 0, 0, 1) !== 0) return;
      Atomics.notify(done, 0);
      Atomics.wait(done, 0, 1, ENDS_WITHIN_MS);
    },
  };
}
