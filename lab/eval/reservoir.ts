import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

const SEED = 23;

/** All of the numbers or tuples of numbers that are added, or of more than it holds a sample, each as likely as any other (Vitter 1985, algorithm R). */
export class Reservoir {
  readonly #values: Float64Array;
  readonly #random = xoroshiro128plus(SEED);
  #seen = 0;

  /** @param width numbers of a tuple */
  constructor(
    private readonly capacity: number,
    private readonly width = 1,
  ) {
    this.#values = new Float64Array(capacity * width);
  }

  /** How many were added. */
  get seen(): number {
    return this.#seen;
  }

  add(...tuple: readonly number[]): void {
    const place = this.#seen < this.capacity ? this.#seen : uniformInt(this.#random, 0, this.#seen);
    this.#seen++;
    if (place < this.capacity) this.#values.set(tuple, place * this.width);
  }

  /** [count, width], in no particular order where it is a sample. */
  get values(): Float64Array {
    return this.#values.subarray(0, Math.min(this.#seen, this.capacity) * this.width);
  }
}
