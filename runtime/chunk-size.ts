const SMALLEST = 8;
const LARGEST = 512;
/** A chunk is what a cancelled request still costs, and what neighbours wait for. */
const ALONE_MS = 160;
const SHARED_MS = 60;

/** Chooses how many tokens a prefill takes at once: a power of two whose run stays short on this machine. */
export class ChunkSize {
  #msPerToken = 0;
  #known = 0;

  constructor(readonly window: number) {}

  /** @param shared whether others wait for their turns */
  next(left: number, shared: boolean): number {
    const limit = Math.min(LARGEST, this.window, left);
    if (this.#known === 0) return Math.min(limit, SMALLEST * 2);
    const affordable = (shared ? SHARED_MS : ALONE_MS) / this.#msPerToken;
    // What is not yet measured is not believed: larger chunks are quicker per token, but by how much is unknown.
    const size = 2 ** Math.floor(Math.log2(Math.max(SMALLEST, Math.min(affordable, this.#known * 4))));
    return Math.min(size, limit);
  }

  measured(tokens: number, ms: number): void {
    const perToken = ms / tokens;
    this.#msPerToken = this.#known === 0 || tokens > this.#known ? perToken : 0.7 * this.#msPerToken + 0.3 * perToken;
    this.#known = Math.max(this.#known, tokens);
  }
}
