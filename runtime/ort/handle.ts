import type { Pointer } from "./api.js";

/** Something native with one owner: freed exactly once, unusable afterwards, kept alive while others hold it. */
export class Handle implements Disposable {
  #pointer: Pointer;
  #holds = 0;
  #disposed = false;
  readonly #free: (pointer: Pointer) => void;
  readonly #what: string;

  constructor(what: string, pointer: Pointer, free: (pointer: Pointer) => void) {
    this.#what = what;
    this.#pointer = pointer;
    this.#free = free;
  }

  /** @throws Error after disposal, so that a stale handle never reaches native code. */
  get pointer(): Pointer {
    if (this.#disposed) throw new Error(`${this.#what} was used after it was disposed`);
    return this.#pointer;
  }

  /** Keeps the native object until `letGo`, even if its owner disposes it before. */
  hold(): void {
    void this.pointer;
    this.#holds++;
  }

  /** @throws Error where nothing is held: one too many would free what another still uses. */
  letGo(): void {
    if (this.#holds === 0) throw new Error(`${this.#what} was let go of more often than it was held`);
    this.#holds--;
    this.#freeIfUnused();
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#freeIfUnused();
  }

  #freeIfUnused(): void {
    if (!this.#disposed || this.#holds > 0 || this.#pointer === 0n) return;
    const pointer = this.#pointer;
    this.#pointer = 0n;
    this.#free(pointer);
  }
}

/** Something that can be kept alive. */
export interface Holdable {
  hold(): void;
  letGo(): void;
}

/** Holds all or none; the returned function lets all go. */
export function holdAll(things: Iterable<Holdable>): () => void {
  const held: Holdable[] = [];
  const letGo = () => {
    for (const each of held) each.letGo();
  };
  try {
    for (const each of things) {
      each.hold();
      held.push(each);
    }
  } catch (error) {
    letGo();
    throw error;
  }
  return letGo;
}
