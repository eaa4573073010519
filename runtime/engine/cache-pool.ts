import { Archive } from "../cache/archive.js";
import type { LambdaCache, LambdaGeometry } from "../cache/lambda-cache.js";
import { restorePrefix } from "../cache/prefix-block.js";
import { archivedTokens } from "../cache/retrieval.js";
import { restoreRow, type StoredRow, storeRow } from "../cache/row-snapshot.js";
import type { Runner } from "../graphs/runner.js";
import type { Member } from "./member.js";
import type { Place, Sequence } from "./sequence.js";

/**
 * What a cache is for. Rows of a shared cache decode together. Those of the others decode one by one, so that the graph that
 * a text runs in follows from its own request: edited ones, those that retrieve, and those that keep all keys.
 */
export type CacheKind = "shared" | "edited" | "retrieving" | "full";

/** The caches of a model, one for each kind and number of starting tokens in use; sequences get rows of them, and archives. */
export class CachePool implements Disposable {
  readonly #caches = new Map<string, LambdaCache>();
  readonly #owners = new Map<LambdaCache, Sequence[]>();
  /** As of `saturated`, in caches that are closed. */
  #saturatedBefore = 0;

  /**
   * @param geometry the server's: the largest window of a row that does not keep all keys
   * @param recorded whether steps on the shared cache of these starting tokens are recorded; it stays when no text uses it,
   * because what was recorded of it would be lost
   */
  constructor(
    readonly runner: Runner,
    readonly geometry: LambdaGeometry,
    readonly recorded: boolean,
  ) {}

  /** Where a sequence computes: its row, or at first a new one, with what was stored of it. @throws OrtError when there is no memory. */
  placeOf(member: Member): Place {
    const { place } = member.sequence;
    if (place !== null) return place;
    const { geometry, retrieval } = member.options;
    const cache = this.#open(member);
    let archive: Archive | null = null;
    try {
      if (retrieval !== null) {
        const { shape, activations } = this.runner.model;
        const tokens = archivedTokens(member.options.asked, member.sequence.promptLength);
        archive = new Archive(shape, { ...geometry, retrieval, tokens, activations }, this.runner.device);
      }
      const row = rowFor(member, cache);
      this.#owners.get(cache)?.push(member.sequence);
      member.stored = null;
      member.sequence.place = { cache, row, archive };
      member.begin();
      return member.sequence.place;
    } catch (error) {
      archive?.[Symbol.dispose]();
      this.#closeIfUnused(cache);
      throw error;
    }
  }

  /** What a row holds, apart from its cache. */
  store({ cache, row }: Place): StoredRow {
    return storeRow(cache, row);
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

  /** Keys and values of all texts so far whose codes stand at an end of their range. */
  get saturated(): number {
    return [...this.#caches.values()].reduce((sum, { saturated }) => sum + saturated, this.#saturatedBefore);
  }

  [Symbol.dispose](): void {
    for (const cache of [...this.#caches.values()]) this.#close(cache);
  }

  #open({ id, options: { kind, geometry } }: Member): LambdaCache {
    const { window, sinks } = geometry;
    // Rows of one cache have as many slots as the longest: a text that keeps all keys has one of its own.
    const key = kind === "full" ? `${kind} ${id}` : `${kind} ${sinks}`;
    const known = this.#caches.get(key);
    if (known !== undefined) return known;
    const recorded = this.recorded && key === this.#keptKey;
    const largest = kind === "full" ? window : Math.max(window, this.geometry.window);
    const cache = this.runner.openCache({ window: largest, sinks }, { recorded });
    this.#caches.set(key, cache);
    this.#owners.set(cache, []);
    return cache;
  }

  get #keptKey(): string {
    return `shared ${this.geometry.sinks}`;
  }

  /** A cache has grown with its texts: the next one pays for what it uses. */
  #closeIfUnused(cache: LambdaCache): void {
    if (this.recorded && cache === this.#caches.get(this.#keptKey)) return;
    if (this.#owners.get(cache)?.length === 0) this.#close(cache);
  }

  #close(cache: LambdaCache): void {
    for (const [key, each] of this.#caches) if (each === cache) this.#caches.delete(key);
    this.#owners.delete(cache);
    this.#saturatedBefore += cache.saturated;
    this.runner.closeCache(cache);
  }
}

/** A new row, with what was stored of the text or is known of its prompt. @throws OrtError. */
function rowFor({ stored, prefilled, options: { geometry, prefix } }: Member, cache: LambdaCache): number {
  if (stored !== null) return restoreRow(cache, stored);
  if (prefix === null || prefilled === 0) return cache.allocate(geometry.window);
  return restorePrefix(cache, geometry.window, prefilled, prefix.take());
}
