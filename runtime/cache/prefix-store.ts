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

  /** What was stored of a block. */
  get(key: string): Uint8Array | undefined {
    return this.#links.get(key)?.block?.payload;
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
   * @param spare a block of the same prompt that is needed less, and goes where only newer prompts' blocks could go else
   */
  put(key: string, payload: Uint8Array, { before, spare }: { before: string | null; spare: string | null }): void {
    const newer = before === null ? this.#ends : this.#links.get(before);
    if (newer === undefined || this.#links.has(key)) return;
    const link = new Link({ key, payload });
    link.placeBehind(newer);
    this.#links.set(key, link);
    this.#bytes += payload.length;
    this.#version++;
    while (this.#bytes > this.capacity) {
      const oldest = this.#ends.newer;
      const spared = oldest === link && spare !== null ? this.#links.get(spare) : undefined;
      this.#drop(spared ?? oldest);
    }
  }

  #drop(link: Link): void {
    link.leave();
    if (link.block === null) return;
    this.#links.delete(link.block.key);
    this.#bytes -= link.block.payload.length;
    this.#version++;
  }
}
