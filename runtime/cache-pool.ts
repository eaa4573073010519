import type { LambdaCache, LambdaGeometry } from "./lambda-cache.js";
import type { Runner } from "./runner.js";
import type { Place, Sequence } from "./sequence.js";

/** The caches of a model, one for each window and number of sinks in use; sequences get rows of them. */
export class CachePool implements Disposable {
  readonly #caches = new Map<string, LambdaCache>();
  readonly #owners = new Map<LambdaCache, Sequence[]>();

  constructor(
    readonly runner: Runner,
    /** What most requests use: kept when empty. */
    readonly usual: LambdaGeometry,
  ) {
    this.#open(usual);
  }

  /** Gives a sequence a zeroed row. */
  allocate(sequence: Sequence, geometry: LambdaGeometry): Place {
    const cache = this.#open(geometry);
    const row = cache.allocate();
    this.#owners.get(cache)?.push(sequence);
    sequence.place = { cache, row };
    return sequence.place;
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
    if (owners.length === 0 && place.cache !== this.#caches.get(keyOf(this.usual))) this.#close(place.cache);
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

  #close(cache: LambdaCache): void {
    this.#caches.delete(keyOf(cache));
    this.#owners.delete(cache);
    this.runner.closeCache(cache);
  }
}

const keyOf = ({ window, sinks }: LambdaGeometry): string => `${window}/${sinks}`;
