import type { Pointer } from "./api.js";
import { copyMemory } from "./c-library.js";
import type { Holdable } from "./handle.js";

/** Rows of bytes that stand `pitch` bytes apart. */
export interface Rows {
  readonly address: Pointer;
  readonly pitch: number;
}

/** Memory that the host cannot touch: how bytes get there, and from there. */
export interface Memory {
  /** `OrtMemoryInfo` of tensors in it. */
  readonly info: Pointer;
  zero(address: Pointer, bytes: number): void;
  copy(to: Pointer, from: Pointer, bytes: number): void;
  /** Copies `height` rows of `width` bytes. */
  copyRows(to: Rows, from: Rows, width: number, height: number): void;
  copyIn(to: Pointer, from: Pointer | Uint8Array, bytes: number): void;
  /** @param receive is given host memory that holds bytes [at, at + bytes) of what is copied, piece by piece */
  copyOut(from: Pointer, bytes: number, receive: (host: Pointer, at: number, bytes: number) => void): void;
}

/** Memory that outlives a tensor made over it. */
export interface Backing extends Holdable {
  readonly address: Pointer;
  readonly bytes: number;
  /** Where it is not, writing would end the process. */
  readonly writable: boolean;
  /** Left out: the host's. */
  readonly memory?: Memory | undefined;
}

/** `count` stretches of `length` elements, those of the source and of the target each their own number of elements apart. */
export interface Stretches {
  readonly count: number;
  readonly length: number;
  readonly sourceOffset: number;
  readonly sourceStride: number;
  readonly offset: number;
  readonly stride: number;
}

/** Rows somewhere; null: in the host's memory. */
interface PlacedRows extends Rows {
  readonly memory: Memory | null;
}

/** Copies `height` rows of `width` bytes, from wherever they are; where there are several, the two must not share what is copied. */
export function copyRows(to: PlacedRows, from: PlacedRows, width: number, height: number): void {
  if (height > 1 && to.memory !== null && from.memory !== null) {
    to.memory.copyRows(to, from, width, height);
    return;
  }
  for (let i = 0; i < height; i++)
    copyBytes(
      { memory: to.memory, address: to.address + BigInt(i * to.pitch) },
      { memory: from.memory, address: from.address + BigInt(i * from.pitch) },
      width,
    );
}

function copyBytes(to: Omit<PlacedRows, "pitch">, from: Omit<PlacedRows, "pitch">, bytes: number): void {
  if (to.memory !== null && from.memory !== null) to.memory.copy(to.address, from.address, bytes);
  else if (to.memory !== null) to.memory.copyIn(to.address, from.address, bytes);
  else if (from.memory !== null)
    from.memory.copyOut(from.address, bytes, (host, at, length) => copyMemory(to.address + BigInt(at), host, length));
  else copyMemory(to.address, from.address, bytes);
}
