import { BATCH, type DecodeInterface, TOKENS, WANTED } from "../../models/graph-interface.js";
import type { Archive } from "../cache/archive.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { Binding } from "../ort/binding.js";
import { Recordings } from "../ort/recordings.js";
import type { Session } from "../ort/session.js";
import type { GraphResources } from "./graph-resources.js";
import { GraphTensors } from "./graph-tensors.js";
import { bindEdits, type ResidualEdits } from "./residual-edits.js";

/** Rows of a cache that a run decodes, and what it does besides. */
export interface DecodeRows {
  readonly first: number;
  readonly rows: number;
  /** Whether taps are read. */
  readonly tapped: boolean;
  readonly edits: readonly (ResidualEdits | null)[];
  readonly archive: Archive | null;
}

/** What a run of some rows of a cache is bound to; made once and used until the cache's buffers change. */
export interface DecodeBinding extends Disposable {
  /** Of the cache's buffers. */
  readonly generation: number;
  readonly edits: readonly (ResidualEdits | null)[];
  readonly archive: Archive | null;
  /** Its generation; null without one. */
  readonly archived: number | null;
  readonly binding: Binding;
  /** As of `Binding.run`. */
  readonly recording: number | null;
  readonly tensors: GraphTensors;
}

/** What runs of one decode graph are bound to, kept from step to step: by cache, rows and whether taps are read. */
export class DecodeBindings implements Disposable {
  readonly #session: Session;
  readonly #resources: GraphResources;
  readonly #names: DecodeInterface;
  readonly #replays: boolean;
  readonly #recordings = new Recordings();
  readonly #bound = new Map<LambdaCache, Map<string, DecodeBinding>>();

  /** @param replays whether runs may be recorded */
  constructor(session: Session, resources: GraphResources, names: DecodeInterface, replays: boolean) {
    this.#session = session;
    this.#resources = resources;
    this.#names = names;
    this.#replays = replays;
  }

  /** As bound before, where that still fits; else anew, and what no longer fits is freed. */
  of(cache: LambdaCache, run: DecodeRows): DecodeBinding {
    const { first, rows, tapped, edits, archive } = run;
    const ofCache = this.#bound.get(cache) ?? new Map<string, DecodeBinding>();
    this.#bound.set(cache, ofCache);
    this.forgetStale(cache);
    const key = `${first}+${rows}${tapped ? "tapped" : ""}`;
    const known = ofCache.get(key);
    if (known !== undefined && edits.every((each, row) => each === known.edits[row]) && holds(known, archive))
      return known;
    known?.[Symbol.dispose]();
    ofCache.delete(key);
    const bound = this.#make(cache, run);
    ofCache.set(key, bound);
    return bound;
  }

  /** Frees what was bound to a cache. */
  forget(cache: LambdaCache): void {
    for (const bound of this.#bound.get(cache)?.values() ?? []) bound[Symbol.dispose]();
    this.#bound.delete(cache);
  }

  /** Frees what was bound to buffers that a cache no longer has. */
  forgetStale(cache: LambdaCache): void {
    const ofCache = this.#bound.get(cache);
    for (const [key, bound] of ofCache ?? []) {
      if (bound.generation === cache.generation) continue;
      bound[Symbol.dispose]();
      ofCache?.delete(key);
    }
  }

  /** Frees what was bound to an archive, which would otherwise outlive its text. */
  forgetArchive(archive: Archive): void {
    for (const ofCache of this.#bound.values())
      for (const [key, bound] of ofCache) {
        if (bound.archive !== archive) continue;
        bound[Symbol.dispose]();
        ofCache.delete(key);
      }
  }

  [Symbol.dispose](): void {
    for (const cache of [...this.#bound.keys()]) this.forget(cache);
  }

  #make(cache: LambdaCache, { first, rows, tapped, edits, archive }: DecodeRows): DecodeBinding {
    const names = this.#names;
    const tensors = new GraphTensors(this.#resources.device, names.signature, [
      [BATCH, rows],
      [TOKENS, 1],
      [WANTED, rows],
      ...names.geometries.map(({ slots }, g) => [slots, cache.slots(g)] as const),
      ...names.geometries.flatMap(({ appended }, g) =>
        // The kernel wants a table of at least as many rows as a row has slots.
        appended?.rotations ? [[appended.rotations.size, Math.max(cache.slots(g), rows)] as const] : [],
      ),
    ]);
    try {
      this.#bindCache(tensors, cache, first);
      bindEdits(tensors, names.edits, edits, this.#resources);
      if (archive !== null) this.#bindArchive(tensors, archive);
      tensors.complete(tapped ? [] : names.taps.map(({ output }) => output));
      for (const [g, { appended }] of names.geometries.entries()) {
        if (appended === null) continue;
        tensors.write(appended.slots, [cache.slots(g)]);
        if (appended.rotations !== null)
          tensors.write(
            appended.rotations.rows,
            Array.from({ length: rows }, (_, row) => row),
          );
      }
      const binding = tensors.binding(this.#session);
      return {
        generation: cache.generation,
        edits,
        archive,
        archived: archive?.generation ?? null,
        binding,
        recording: this.#replays && cache.recorded ? this.#recordings.next() : null,
        tensors,
        [Symbol.dispose]: () => {
          binding[Symbol.dispose]();
          tensors[Symbol.dispose]();
        },
      };
    } catch (error) {
      tensors[Symbol.dispose]();
      throw error;
    }
  }

  #bindCache(tensors: GraphTensors, cache: LambdaCache, first: number): void {
    for (const [g, { sinks }] of this.#names.geometries.entries())
      if (sinks !== null) tensors.bindRows(sinks.keys, cache.sinkKeys[g], first);
    for (const [layer, { keys, values }] of this.#names.layers.entries()) {
      tensors.bindRows(keys.input, cache.keys[layer], first, keys.outputs);
      tensors.bindRows(values.input, cache.values[layer], first, values.outputs);
    }
  }

  #bindArchive(tensors: GraphTensors, archive: Archive): void {
    for (const [layer, { archive: names }] of this.#names.layers.entries()) {
      if (names === null) continue;
      const { keys, values, hidden } = archive.of(layer);
      tensors.sizes.set(names.tokens, hidden.size).set(names.rows, values.shape[0] ?? 0);
      tensors.bind(names.keys, keys);
      tensors.bind(names.values, values);
      tensors.bind(names.hidden, hidden);
      tensors.once(names.firstRows).write(names.keyHeads.map((head) => head * hidden.size));
    }
  }
}

const holds = (bound: DecodeBinding, archive: Archive | null): boolean =>
  bound.archive === archive && bound.archived === (archive?.generation ?? null);
