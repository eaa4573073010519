import type { DecodeInterface } from "../../models/graph-interface.js";
import type { Archive } from "../cache/archive.js";
import { rowSize } from "../cache/cache-buffers.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import { Binding } from "../ort/binding.js";
import type { RunInputs } from "../ort/device.js";
import type { ElementType } from "../ort/elements.js";
import { Recordings } from "../ort/recordings.js";
import type { Session } from "../ort/session.js";
import { Tensor } from "../ort/tensor.js";
import type { GraphResources } from "./graph-resources.js";
import { editTensors, type ResidualEdits } from "./residual-edits.js";
import { tapTensors } from "./tap-outputs.js";

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
  readonly generation: number;
  readonly edits: readonly (ResidualEdits | null)[];
  /** And its generation. */
  readonly archive: Archive | null;
  readonly archived: number | null;
  readonly binding: Binding;
  /** As of `Binding.run`. */
  readonly recording: number | null;
  /** Those that the host writes, too. */
  readonly inputs: ReadonlyMap<string, Tensor>;
  readonly written: RunInputs;
  readonly logits: Tensor;
  /** Per layer; null where nobody keeps them. */
  readonly rawKeys: readonly (Tensor | null)[];
  /** By output name; empty where no taps are read. */
  readonly taps: ReadonlyMap<string, Tensor>;
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
    const inputs = new Map<string, Tensor>();
    const outputs = new Map<string, Tensor>();
    const { device } = this.#resources;
    const written = device.inputs();
    const letGo = () => {
      for (const tensor of new Set([...inputs.values(), ...outputs.values()])) tensor[Symbol.dispose]();
      written[Symbol.dispose]();
    };
    try {
      const rawKeys = this.#makeTensors(cache, first, rows, written, inputs, outputs);
      const logits = device.zeros("float32", [rows, cache.shape.vocabSize]);
      outputs.set(this.#names.logits, logits);
      const { hiddenSize } = this.#resources.model.shape;
      for (const [name, tensor] of editTensors(this.#names.edits, edits, this.#resources)) inputs.set(name, tensor);
      const taps = tapTensors(tapped ? this.#names.taps : [], [rows, 1, hiddenSize], device);
      for (const [name, tensor] of taps) outputs.set(name, tensor);
      if (archive !== null) this.#bindArchive(archive, written, inputs);
      const binding = new Binding(this.#session, inputs, outputs);
      const dispose = () => {
        binding[Symbol.dispose]();
        letGo();
      };
      const { generation } = cache;
      const archived = archive?.generation ?? null;
      return {
        generation,
        edits,
        archive,
        archived,
        binding,
        recording: this.#replays && cache.recorded ? this.#recordings.next() : null,
        inputs,
        written,
        logits,
        rawKeys,
        taps,
        [Symbol.dispose]: dispose,
      };
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /** Fills `inputs` and `outputs` but for the logits; returns the unrotated keys, per layer. */
  #makeTensors(
    cache: LambdaCache,
    first: number,
    rows: number,
    written: RunInputs,
    inputs: Map<string, Tensor>,
    outputs: Map<string, Tensor>,
  ): (Tensor | null)[] {
    const { kvHeads, headDim } = cache.shape;
    const names = this.#names;
    const input = (name: string, type: ElementType, shape: readonly number[]): void => {
      inputs.set(name, written.zeros(type, shape));
    };
    const aliased = (buffer: Tensor): Tensor => buffer.alias([rows, ...buffer.shape.slice(1)], first * rowSize(buffer));
    input(names.ids, "int64", [rows, 1]);
    if (names.positions !== null) input(names.positions, "int64", [rows, 1]);
    // The host reads it, wherever the graph runs.
    if (names.retrieved !== null) inputs.set(names.retrieved, Tensor.zeros("int64", [1]));
    for (const [g, { rotary, sinks, writeIndex, length, distances, middle }] of names.geometries.entries()) {
      const slots = cache.slots(g);
      const half = this.#resources.rotary[g]?.half ?? 0;
      for (const { cos, sin } of [rotary, middle?.query ?? null].filter((each) => each !== null))
        for (const name of [cos, sin]) input(name, "float32", [rows, 1, half]);
      if (middle !== null) input(middle.unused, "float32", [rows, 1, 1, slots]);
      for (const name of sinks ? [sinks.rotary.cos, sinks.rotary.sin] : [])
        input(name, "float32", [rows, cache.sinks, half]);
      for (const name of length === null ? [writeIndex] : [writeIndex, length]) input(name, "int64", [rows]);
      if (distances !== null) input(distances, "float32", [rows, 1, 1, slots]);
      const sinkKeys = cache.sinkKeys[g];
      if (sinks !== null && sinkKeys) inputs.set(sinks.keys, aliased(sinkKeys));
    }
    return names.layers.map(({ keys, values, rawKey }, layer) => {
      for (const [buffer, { input: name, outputs: links }] of [
        [cache.keys[layer], keys],
        [cache.values[layer], values],
      ] as const) {
        if (buffer === undefined) throw new RangeError(`the cache has no layer ${layer}`);
        const tensor = aliased(buffer);
        inputs.set(name, tensor);
        for (const link of links) outputs.set(link, tensor);
      }
      if (rawKey === null) return null;
      const raw = this.#resources.device.zeros(cache.activations, [rows, kvHeads, 1, headDim]);
      outputs.set(rawKey, raw);
      return raw;
    });
  }

  #bindArchive(archive: Archive, written: RunInputs, inputs: Map<string, Tensor>): void {
    for (const [layer, { archive: names }] of this.#names.layers.entries()) {
      if (names === null) continue;
      const { keys, values, hidden } = archive.of(layer);
      const firstRows = written.zeros("int64", [names.keyHeads.length, 1, 1]);
      firstRows.write(names.keyHeads.map((head) => head * (keys.shape[2] ?? 0)));
      inputs.set(names.keys, keys).set(names.values, values);
      inputs.set(names.hidden, hidden).set(names.firstRows, firstRows);
    }
  }
}

const holds = (bound: DecodeBinding, archive: Archive | null): boolean =>
  bound.archive === archive && bound.archived === (archive?.generation ?? null);
