import { roomFor } from "../ort/available-memory.js";

/** Whether the machine has memory left is looked at once for so many bytes: looking takes as long as to copy a small block. */
const WORTH_A_LOOK = 16 << 20;

/** A place in the order of use: a block's, or that of the two ends, which meet. */
class Link {
  newer: Link = this;
  older: Link = this;

  constructor(readonly block: Block | null) {}

  placeBehind(newer: Link): void {
    this.leave();
    [this.newer, this.older] = [newer, newer.older];
    [newer.older.newer, newer.older] = [this, this];
  }

  leave(): void {
    [this.newer.older, this.older.newer] = [this.older, this.newer];
    [this.newer, this.older] = [this, this];
  }
}

interface Block {
  readonly key: string;
  readonly payload: Uint8Array;
  /** Somebody may still read what was given out when the block is gone. */
  lent: boolean;
}

/**
 * Keys and values of blocks of prompts, by the blocks' names (`blockKeys`), within a number of bytes. The blocks that were
 * used longest ago go first, and of one prompt's blocks the last, because what is known of a text is found from its beginning.
 */
export class PrefixStore {
  readonly #links = new Map<string, Link>();
  /** Before the newest block and behind the oldest. */
  readonly #ends = new Link(null);
  #bytes = 0;
  #version = 0;
  /** Bytes that the machine was found to have memory for. */
  #granted = 0;
  /** Memory of a block that was dropped: to write memory for the first time takes ten times as long as to write it again. */
  #spare: Uint8Array | null = null;

  constructor(
    /** Bytes that the blocks take at most. */
    readonly capacity: number,
  ) {}

  /** Bytes of all blocks. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Changes whenever a block comes or goes. */
  get version(): number {
    return this.#version;
  }

  /** Whether a block is there. */
  has(key: string): boolean {
    return this.#links.has(key);
  }

  /** What was stored of a block; it stays as it is. */
  get(key: string): Uint8Array | undefined {
    const block = this.#links.get(key)?.block;
    if (block) block.lent = true;
    return block?.payload;
  }

  /** Memory for a block that is to be stored; null where the machine has none, or the store is smaller than that. */
  allocate(bytes: number): Uint8Array | null {
    if (bytes > this.capacity) return null;
    const spare = this.#spare;
    if (spare?.length === bytes) {
      this.#spare = null;
      return spare;
    }
    const grown = Math.min(this.capacity, this.#bytes + bytes);
    if (grown > this.#granted) {
      const more = Math.max(bytes, WORTH_A_LOOK);
      if (!roomFor(more, grown)) return null;
      this.#granted = this.#bytes + more;
    }
    try {
      return Buffer.allocUnsafeSlow(bytes);
    } catch {
      return null;
    }
  }

  /** A prompt begins with these blocks, in this order: those that are there become the newest. */
  use(keys: readonly string[]): void {
    let before = this.#ends;
    for (const key of keys) {
      const link = this.#links.get(key);
      if (link === undefined) continue;
      link.placeBehind(before);
      before = link;
    }
  }

  /**
   * Stores a block of a prompt, if the one before it is there.
   * @param before the block before it; null: it is the prompt's first
   * @param expendable a block of the same prompt that is needed less, and goes where only newer prompts' blocks could go else
   */
  put(
    key: string,
    payload: Uint8Array,
    { before, expendable }: { before: string | null; expendable: string | null },
  ): void {
    const newer = before === null ? this.#ends : this.#links.get(before);
    if (newer === undefined || this.#links.has(key)) return;
    const link = new Link({ key, payload, lent: false });
    link.placeBehind(newer);
    this.#links.set(key, link);
    this.#bytes += payload.length;
    this.#version++;
    while (this.#bytes > this.capacity) {
      const oldest = this.#ends.newer;
      const instead = oldest === link && expendable !== null ? this.#links.get(expendable) : undefined;
      this.#drop(instead ?? oldest);
    }
  }

  #drop(link: Link): void {
    link.leave();
    if (link.block === null) return;
    const { key, payload, lent } = link.block;
    this.#links.delete(key);
    this.#bytes -= payload.length;
    if (!lent) this.#spare = payload;
    this.#version++;
  }
}
