import { addressOf } from "./c-library.js";
import type { Backing } from "./memory.js";

/**
 * Memory of a SharedArrayBuffer, for tensors that threads of JavaScript work on between runs. Such a buffer is never moved,
 * and lives for as long as somebody holds it.
 */
export function sharedMemory(buffer: SharedArrayBuffer): Backing {
  const held: SharedArrayBuffer[] = [];
  return {
    address: addressOf(new Uint8Array(buffer)),
    bytes: buffer.byteLength,
    writable: true,
    hold: () => held.push(buffer),
    letGo: () => held.pop(),
  };
}
