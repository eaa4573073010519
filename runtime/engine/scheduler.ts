/** What the scheduler knows of a sequence. */
export interface Turn {
  /** Waits for its reader; gets no turns. */
  paused: boolean;
}

/** So that no turn is free, however coarse the clock: a free one would be given to the same sequence again. */
const SHORTEST_MS = 1e-3;

/**
 * Decides whose turn it is. At most `parallel` sequences run, in the order they came; of these the one that has used the
 * engine least goes next, so that a long prefill and short decode steps share it evenly. Slow readers keep nobody waiting:
 * a paused sequence's place is lent, though at most `parallel` places are, because what it has computed takes memory.
 */
export class Scheduler<T extends Turn> {
  readonly #waiting: T[] = [];
  readonly #used = new Map<T, number>();
  #clock = 0;

  constructor(readonly parallel: number) {}

  /** Sequences that could take a turn now. */
  get ready(): number {
    let ready = 0;
    for (const { paused } of this.#used.keys()) if (!paused) ready++;
    return ready;
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
    this.#admit();
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
    if (used !== undefined) this.#used.set(sequence, Math.max(used, this.#clock) + Math.max(ms, SHORTEST_MS));
  }

  #admit(): void {
    for (let free = this.parallel - this.ready; free > 0 && this.#used.size < 2 * this.parallel; free--) {
      const at = this.#waiting.findIndex(({ paused }) => !paused);
      const [first] = at < 0 ? [] : this.#waiting.splice(at, 1);
      if (first === undefined) return;
      this.#used.set(first, this.#clock);
    }
  }
}
