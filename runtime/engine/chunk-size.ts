const SMALLEST = 8;
const LARGEST = 512;
/** A GPU is busy with no fewer; what limits them is memory for the mask, of which each head has its own far in the text. */
const LARGEST_ON_DEVICE = 1024;
/** A chunk is what a cancelled request still costs, and what its neighbours wait for. */
const ALONE_MS = 180;
const SHARED_MS = 60;
/** A size that was too slow looks this much quicker each time it is passed over, so that it is tried again some day. */
const FORGETTING = 0.99;
/** Bytes of weights times tokens of a chunk whose size must not depend on the machine's mood. */
const STEADY_WORK = 2e10;

/**
 * Chooses how many tokens a prefill takes at once: the largest power of two whose run stays short on this machine. Larger
 * chunks are quicker per token, because the weights are read once for all of them.
 */
export class ChunkSize {
  readonly #ms = new Map<number, number>();

  readonly #largest: number;

  /** @param isHost whether the CPU computes */
  constructor(
    readonly window: number,
    readonly weightBytes: number,
    readonly isHost = true,
  ) {
    this.#largest = isHost ? LARGEST : LARGEST_ON_DEVICE;
  }

  /**
   * A size that depends on the model and the kind of device alone. Where a text is cut changes its logits in the last digits, so a request that
   * is to give the same text again takes this one.
   */
  steady(left: number): number {
    const size = this.isHost ? 2 ** Math.floor(Math.log2(STEADY_WORK / this.weightBytes)) : this.#largest;
    return Math.min(Math.max(SMALLEST, Math.min(size, this.#largest)), this.window, left);
  }

  /** @param shared whether others wait for their turns */
  next(left: number, shared: boolean): number {
    const affordable = shared ? SHARED_MS : ALONE_MS;
    const largest = Math.min(this.#largest, this.window);
    let size = Math.min(SMALLEST, largest);
    while (size * 2 <= largest && this.#expected(size * 2) <= affordable) size *= 2;
    const slower = this.#ms.get(size * 2);
    if (slower !== undefined && !shared) this.#ms.set(size * 2, slower * FORGETTING);
    return Math.min(size, left);
  }

  measured(tokens: number, ms: number): void {
    if (!Number.isInteger(Math.log2(tokens))) return;
    const known = this.#ms.get(tokens);
    this.#ms.set(tokens, known === undefined ? ms : 0.7 * known + 0.3 * ms);
  }

  /** Untried sizes: along the line through the two next smaller ones; 0 while nothing speaks against a larger chunk. */
  #expected(tokens: number): number {
    const known = this.#ms.get(tokens);
    if (known !== undefined) return known;
    const half = this.#ms.get(tokens / 2);
    if (half === undefined) return Number.POSITIVE_INFINITY;
    const quarter = this.#ms.get(tokens / 4);
    return quarter === undefined ? half : half + 2 * Math.max(0, half - quarter);
  }
}
