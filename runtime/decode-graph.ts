import { HIDDEN } from "../models/attention.js";
import type { CompiledGraph } from "../models/compile.js";
import type { DecodeInterface } from "../models/graph-interface.js";
import type { Archive } from "./archive.js";
import { slotDistances } from "./chunk.js";
import type { GraphResources } from "./graph-resources.js";
import { type LambdaCache, rowSize } from "./lambda-cache.js";
import { Binding } from "./ort/binding.js";
import type { RunInputs } from "./ort/device.js";
import type { ElementType } from "./ort/elements.js";
import type { HostNode } from "./ort/placement.js";
import { Session } from "./ort/session.js";
import { Tensor } from "./ort/tensor.js";
import { Recordings } from "./recordings.js";
import { editTensors, type ResidualEdits } from "./residual-edits.js";
import { type Residuals, readTaps, type TapRows, tapTensors } from "./tap-outputs.js";

/** What a run of some rows of a cache is bound to; made once and used until the cache's buffers change. */
interface Bound extends Disposable {
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

/** What a run of the decode graph does besides computing logits. */
export interface DecodeOptions {
  /** Position of the text's first token: 0 but for tests of far positions. */
  readonly origin?: number;
  /** Is given the tensors of all taps, [rows, hiddenSize] each. */
  readonly residuals?: Residuals | TapRows;
  /** Those of each row; null: none. */
  readonly edits?: readonly (ResidualEdits | null)[];
  /** What the row, which then is the only one, has archived; the token is added to it. */
  readonly archive?: Archive | null;
}

/** The decode graph of a model: one token in each of some neighbouring rows, keys and values written in place. */
export class DecodeGraph implements Disposable {
  readonly #session: Session;
  readonly #resources: GraphResources;
  readonly #names: DecodeInterface;
  readonly #bound = new Map<LambdaCache, Map<string, Bound>>();
  readonly #replays: boolean;
  readonly #recordings = new Recordings();
  #logits = new Float32Array(0);

  constructor(resources: GraphResources, graph: CompiledGraph<DecodeInterface>) {
    this.#resources = resources;
    this.#names = graph.interface;
    // An archive grows with its text: each recording would be replayed a few times only.
    this.#replays = resources.replays && graph.interface.recordable && graph.interface.retrieved === null;
    this.#session = Session.load(graph.path, {
      ...resources,
      replays: this.#replays,
      weights: resources.weights.tensors,
      prepack: resources.prepacked !== undefined,
    });
  }

  get hostNodes(): readonly HostNode[] {
    return this.#session.hostNodes;
  }

  /**
   * Logits [tokens.length, vocab] of rows first, first + 1, ...; the row's own count is left to the caller. A graph with
   * edit inputs needs `edits`, and one that retrieves an `archive`.
   */
  run(cache: LambdaCache, first: number, tokens: readonly number[], options: DecodeOptions): Float32Array {
    const { origin = 0, residuals, archive = null } = options;
    if ((archive !== null) !== (this.#names.retrieved !== null) || (archive !== null && tokens.length !== 1))
      throw new RangeError("a graph that retrieves runs one row, with its archive");
    if (archive !== null) this.#open(archive, cache.count(first));
    const bound = this.#bind(cache, first, tokens.length, options);
    const write = (name: string, values: ArrayLike<number>, at = 0) => bound.inputs.get(name)?.write(values, at);
    const counts = tokens.map((_, i) => cache.count(first + i));
    write(this.#names.ids, tokens);
    if (this.#names.positions !== null) write(this.#names.positions, counts);
    if (archive !== null && this.#names.retrieved !== null) write(this.#names.retrieved, [archive.retrieval.k]);
    for (const [g, { rotary, sinks, writeIndex, length, distances, middle }] of this.#names.geometries.entries()) {
      const ring = cache.rings[g]!;
      if (archive !== null && middle !== null) {
        const used = Math.min(cache.count(first) + 1, ring.full);
        write(middle.unused, new Float32Array(ring.slots).fill(HIDDEN, used));
        const [cos, sin] =
          middle.query === null ? [] : [bound.inputs.get(middle.query.cos), bound.inputs.get(middle.query.sin)];
        if (cos && sin) this.#resources.rotary[g]?.writeDistance(cos, sin, 0, archive.retrieval.distance, 1);
      }
      write(
        writeIndex,
        counts.map((n) => ring.slotOf(n)),
      );
      if (length !== null)
        write(
          length,
          counts.map((n) => Math.min(n + 1, ring.full)),
        );
      for (const [i, n] of counts.entries()) {
        if (distances !== null) write(distances, slotDistances(ring, n + 1), i * ring.slots);
        if (rotary !== null) this.#rotate(bound, g, rotary, i, [origin + n]);
        if (sinks === null) continue;
        const nearest = n - ring.window;
        const standing = Array.from({ length: ring.sinks }, (_, s) => origin + Math.max(s, nearest));
        this.#rotate(bound, g, sinks.rotary, i, standing);
      }
    }
    bound.written.send();
    bound.binding.run(bound.recording);
    for (const i of tokens.keys()) this.#keepSink(cache, first, i, bound);
    if (archive !== null) this.#keep(archive, cache, first, bound);
    if (residuals) readTaps(this.#names.taps, bound.taps, residuals);
    if (this.#logits.length !== bound.logits.size) this.#logits = new Float32Array(bound.logits.size);
    return bound.logits.read(this.#logits);
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
    this.#session[Symbol.dispose]();
  }

  #rotate(
    bound: Bound,
    geometry: number,
    { cos, sin }: { cos: string; sin: string },
    row: number,
    positions: readonly number[],
  ): void {
    const [cosTensor, sinTensor] = [bound.inputs.get(cos), bound.inputs.get(sin)];
    if (cosTensor && sinTensor) this.#resources.rotary[geometry]?.write(cosTensor, sinTensor, row, positions);
  }

  #keepSink(cache: LambdaCache, first: number, i: number, { rawKeys }: Bound): void {
    if (cache.count(first + i) >= cache.sinks) return;
    const { kvHeads, headDim } = cache.shape;
    const own = rawKeys.map((tensor) => tensor?.alias([1, kvHeads, 1, headDim], i * kvHeads * headDim) ?? null);
    cache.keepSink(first + i, own);
    for (const tensor of own) tensor?.[Symbol.dispose]();
  }

  /** Readies an archive for the token with index `t`. What is bound of it would keep the memory that it leaves. */
  #open(archive: Archive, t: number): void {
    if (archive.room <= t) this.forgetArchive(archive);
    archive.reserve(t + 1);
    archive.showTo(t);
  }

  /** Adds the token of a row to its archive. */
  #keep(archive: Archive, cache: LambdaCache, row: number, { rawKeys }: Bound): void {
    const n = cache.count(row);
    archive.store(n, 1, (layer) => {
      const ring = cache.rings[cache.shape.layerGeometries[layer] ?? 0]!;
      const inCache = row * cache.shape.kvHeads * ring.slots + ring.slotOf(n);
      const raw = rawKeys[layer] ?? null;
      return {
        ...(raw === null ? { keys: cache.keys[layer]!, keysAt: inCache } : { keys: raw, keysAt: 0 }),
        values: cache.values[layer]!,
        valuesAt: inCache,
      };
    });
  }

  #bind(cache: LambdaCache, first: number, rows: number, options: DecodeOptions): Bound {
    const { residuals, edits = [], archive = null } = options;
    const ofCache = this.#bound.get(cache) ?? new Map<string, Bound>();
    this.#bound.set(cache, ofCache);
    const key = `${first}+${rows}${residuals ? "tapped" : ""}`;
    for (const [known, bound] of ofCache) {
      const fits = known !== key || (edits.every((each, row) => each === bound.edits[row]) && holds(bound, archive));
      if (bound.generation === cache.generation && fits) continue;
      bound[Symbol.dispose]();
      ofCache.delete(known);
    }
    const known = ofCache.get(key);
    if (known !== undefined) return known;
    const bound = this.#make(cache, first, rows, options);
    ofCache.set(key, bound);
    return bound;
  }

  #make(cache: LambdaCache, first: number, rows: number, options: DecodeOptions): Bound {
    const { residuals, edits = [], archive = null } = options;
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
      for (const [name, tensor] of editTensors(this.#names.edits, edits, hiddenSize, device)) inputs.set(name, tensor);
      const taps = tapTensors(residuals ? this.#names.taps : [], [rows, 1, hiddenSize], device);
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
      const ring = cache.rings[g]!;
      const half = this.#resources.rotary[g]?.half ?? 0;
      for (const { cos, sin } of [rotary, middle?.query ?? null].filter((each) => each !== null))
        for (const name of [cos, sin]) input(name, "float32", [rows, 1, half]);
      if (middle !== null) input(middle.unused, "float32", [rows, 1, 1, ring.slots]);
      for (const name of sinks ? [sinks.rotary.cos, sinks.rotary.sin] : [])
        input(name, "float32", [rows, ring.sinks, half]);
      for (const name of length === null ? [writeIndex] : [writeIndex, length]) input(name, "int64", [rows]);
      if (distances !== null) input(distances, "float32", [rows, 1, 1, ring.slots]);
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

const holds = (bound: Bound, archive: Archive | null): boolean =>
  bound.archive === archive && bound.archived === (archive?.generation ?? null);
