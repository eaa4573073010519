import type { LambdaCache, LambdaGeometry } from "./lambda-cache.js";
import type { Runner } from "./runner.js";
import type { Place, Sequence } from "./sequence.js";

/** The caches of a model, one for each window and number of sinks in use; sequences get rows of them. */
export class CachePool implements Disposable {
  readonly #caches = new Map<string, LambdaCache>();
  readonly #owners = new Map<LambdaCache, Sequence[]>();

  constructor(readonly runner: Runner) {}

  /** Gives a sequence a zeroed row. @throws OrtError when there is no memory for it. */
  allocate(sequence: Sequence, geometry: LambdaGeometry): Place {
    const cache = this.#open(geometry);
    try {
      const place = { cache, row: cache.allocate() };
      this.#owners.get(cache)?.push(sequence);
      sequence.place = place;
      return place;
    } catch (error) {
      this.#closeIfUnused(cache);
      throw error;
    }
  }

  /** Takes a sequence's row back; a row that moves into its place takes its owner along. */
  release(sequence: Sequence): void {
    const { place } = sequence;
    if (place === null) return;
    sequence.place = null;
    const owners = this.#owners.get(place.cache) ?? [];
    const moved = place.cache.release(place.row);
    const last = owners.pop();
    if (moved !== undefined && last !== undefined && last.place !== null) {
      last.place.row = place.row;
      owners[place.row] = last;
    }
    this.#closeIfUnused(place.cache);
  }

  /** Bytes of all caches. */
  get bytes(): number {
    return [...this.#caches.values()].reduce((sum, cache) => sum + cache.bytes, 0);
  }

  [Symbol.dispose](): void {
    for (const cache of [...this.#caches.values()]) this.#close(cache);
  }

  #open(geometry: LambdaGeometry): LambdaCache {
    const known = this.#caches.get(keyOf(geometry));
    if (known !== undefined) return known;
    const cache = this.runner.openCache(geometry);
    this.#caches.set(keyOf(geometry), cache);
    this.#owners.set(cache, []);
    return cache;
  }

  /** A cache has grown with its texts: the next one pays for what it uses. */
  #closeIfUnused(cache: LambdaCache): void {
    if (this.#owners.get(cache)?.length === 0) this.#close(cache);
  }

  #close(cache: LambdaCache): void {
    this.#caches.delete(keyOf(cache));
    this.#owners.delete(cache);
    this.runner.closeCache(cache);
  }
}

const keyOf = ({ window, sinks }: LambdaGeometry): string => `${window}/${sinks}`;
