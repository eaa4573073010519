import { Archive } from "../cache/archive.js";
import type { LambdaCache, LambdaGeometry } from "../cache/lambda-cache.js";
import { archivedTokens, type Retrieval } from "../cache/retrieval.js";
import type { Runner } from "../graphs/runner.js";
import type { Place, Sequence } from "./sequence.js";

/** The caches of a model, one for each window and number of sinks in use; sequences get rows of them, and archives. */
export class CachePool implements Disposable {
  readonly #caches = new Map<string, LambdaCache>();
  readonly #owners = new Map<LambdaCache, Sequence[]>();

  /** @param kept whose cache stays when no text uses it: what was recorded of it would be lost */
  constructor(
    readonly runner: Runner,
    readonly kept: LambdaGeometry | null = null,
  ) {}

  /** Gives a sequence a zeroed row. @throws OrtError when there is no memory for it. */
  allocate(sequence: Sequence, geometry: LambdaGeometry, retrieval: Retrieval | null): Place {
    const cache = this.#open(geometry);
    let archive: Archive | null = null;
    try {
      const { shape, activations } = cache;
      const tokens = archivedTokens(sequence.asked, sequence.promptLength);
      const options = { ...geometry, retrieval, tokens, activations };
      if (retrieval !== null) archive = new Archive(shape, { ...options, retrieval }, this.runner.device);
      const place = { cache, row: cache.allocate(), archive };
      this.#owners.get(cache)?.push(sequence);
      sequence.place = place;
      return place;
    } catch (error) {
      archive?.[Symbol.dispose]();
      this.#closeIfUnused(cache);
      throw error;
    }
  }

  /** Takes a sequence's row back; a row that moves into its place takes its owner along. */
  release(sequence: Sequence): void {
    const { place } = sequence;
    if (place === null) return;
    sequence.place = null;
    if (place.archive !== null) this.runner.closeArchive(place.archive);
    const owners = this.#owners.get(place.cache) ?? [];
    const moved = place.cache.release(place.row);
    const last = owners.pop();
    if (moved !== undefined && last !== undefined && last.place !== null) {
      last.place.row = place.row;
      owners[place.row] = last;
    }
    this.#closeIfUnused(place.cache);
  }

  /** Closes what no text uses, the kept cache too: it has grown with its texts, and opens again when one comes. */
  shrink(): void {
    for (const [cache, owners] of [...this.#owners]) if (owners.length === 0) this.#close(cache);
  }

  /** Bytes of all caches and archives. */
  get bytes(): number {
    const archives = [...this.#owners.values()].flat().flatMap(({ place }) => place?.archive ?? []);
    return [...this.#caches.values(), ...archives].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  [Symbol.dispose](): void {
    for (const cache of [...this.#caches.values()]) this.#close(cache);
  }

  #open(geometry: LambdaGeometry): LambdaCache {
    const known = this.#caches.get(keyOf(geometry));
    if (known !== undefined) return known;
    const isKept = this.kept === null || keyOf(this.kept) === keyOf(geometry);
    const cache = this.runner.openCache(geometry, { recorded: isKept });
    this.#caches.set(keyOf(geometry), cache);
    this.#owners.set(cache, []);
    return cache;
  }

  /** A cache has grown with its texts: the next one pays for what it uses. */
  #closeIfUnused(cache: LambdaCache): void {
    if (this.kept !== null && keyOf(this.kept) === keyOf(cache)) return;
    if (this.#owners.get(cache)?.length === 0) this.#close(cache);
  }

  #close(cache: LambdaCache): void {
    this.#caches.delete(keyOf(cache));
    this.#owners.delete(cache);
    this.runner.closeCache(cache);
  }
}

const keyOf = ({ window, sinks }: LambdaGeometry): string => `${window}/${sinks}`;
