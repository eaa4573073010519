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

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Keeps the native object until `letGo`, even if its owner disposes it before. */
  hold(): void {
    void this.pointer;
    this.#holds++;
  }

  letGo(): void {
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
