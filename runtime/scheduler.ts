/** What the scheduler knows of a sequence. */
export interface Turn {
  /** Waits for its reader; gets no turns. */
  paused: boolean;
}

/**
 * Decides whose turn it is. At most `parallel` sequences run, in the order they came; of these the one that has used the
 * engine least goes next, so that a long prefill and short decode steps share it evenly.
 */
export class Scheduler<T extends Turn> {
  readonly #waiting: T[] = [];
  readonly #used = new Map<T, number>();
  #clock = 0;

  constructor(readonly parallel: number) {}

  get running(): number {
    return this.#used.size;
  }

  /** Sequences that could take a turn now. */
  get ready(): number {
    return [...this.#used.keys()].filter((each) => !each.paused).length;
  }

  add(sequence: T): void {
    this.#waiting.push(sequence);
  }

  remove(sequence: T): void {
    this.#used.delete(sequence);
    const at = this.#waiting.indexOf(sequence);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** The next sequence, or undefined if none can run. */
  next(): T | undefined {
    while (this.#used.size < this.parallel) {
      const first = this.#waiting.shift();
      if (first === undefined) break;
      this.#used.set(first, this.#clock);
    }
    let best: T | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const [sequence, used] of this.#used) {
      if (sequence.paused || used >= least) continue;
      best = sequence;
      least = used;
    }
    if (best !== undefined) this.#clock = Math.max(this.#clock, least);
    return best;
  }

  /** Charges a sequence for its turn (ms). One that was away does not catch up on what it missed. */
  charge(sequence: T, ms: number): void {
    const used = this.#used.get(sequence);
    if (used !== undefined) this.#used.set(sequence, Math.max(used, this.#clock) + ms);
  }
}
