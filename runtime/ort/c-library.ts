import koffi, { type LibraryHandle } from "koffi";
import type { Pointer } from "./api.js";

/** koffi runs native code on a stack of its own (2 MiB, 128 KiB when asynchronous), which ONNX Runtime's kernels overflow. */
const STACK_BYTES = 8 << 20;

interface Memory {
  memset(to: Pointer, byte: number, bytes: number): unknown;
  memmove(to: Pointer | Uint8Array, from: Pointer | Uint8Array, bytes: number): Pointer;
}

let memory: Memory | undefined;

/**
 * Opens a native library; null stands for the program itself. Everything native is opened here, because koffi takes its
 * settings, which are the thread's, only before it has opened anything.
 */
export function openLibrary(path: string | null): LibraryHandle {
  if (koffi.config().sync_stack_size !== STACK_BYTES) {
    koffi.config({ sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES });
  }
  return koffi.load(path);
}

/**
 * Keeps a library in this process for good. koffi closes it with its handle, or with the thread that opened it, while
 * functions of it are still in use: those called by address, and those that its own threads run.
 */
export function keepLoaded(path: string): void {
  if (process.platform === "win32") openLibrary("kernel32.dll").func("LoadLibraryW", "void *", ["str16"])(path);
  else openLibrary(null).func("dlopen", "void *", ["str", "int"])(path, 1);
}

/**
 * Sets a variable of the environment that native code of this process reads (POSIX). `process.env` of a worker thread is
 * only a copy of it.
 */
export function setNativeEnvironment(name: string, value: string): void {
  openLibrary(null).func("setenv", "int", ["str", "str", "int"])(name, value, 1);
}

export function zeroMemory(address: Pointer, bytes: number): void {
  cLibrary().memset(address, 0, bytes);
}

/** Copies bytes, also between places that overlap. */
export function copyMemory(to: Pointer | Uint8Array, from: Pointer | Uint8Array, bytes: number): void {
  cLibrary().memmove(to, from, bytes);
}

/** Where an array's memory lies, which must not be on V8's heap: that moves. */
export const addressOf = (array: Uint8Array): Pointer => cLibrary().memmove(array, array, 0);

function cLibrary(): Memory {
  if (memory === undefined) {
    const library = openLibrary(process.platform === "win32" ? "msvcrt.dll" : null);
    memory = {
      memset: library.func("memset", "void *", ["void *", "int", "size_t"]),
      memmove: library.func("memmove", "void *", ["void *", "void *", "size_t"]),
    };
  }
  return memory;
}
