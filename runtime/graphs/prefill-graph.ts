import type { CompiledGraph } from "../../models/compile.js";
import type { PrefillInterface, RotaryInputs } from "../../models/graph-interface.js";
import type { Archive } from "../cache/archive.js";
import { rowSize } from "../cache/cache-buffers.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import { Binding } from "../ort/binding.js";
import type { RunInputs } from "../ort/device.js";
import type { ElementType } from "../ort/elements.js";
import type { HostNode } from "../ort/placement.js";
import { Session } from "../ort/session.js";
import { Tensor } from "../ort/tensor.js";
import { type Chunk, chunkKeys, keyPlaces, seenKeys, sinkSpans } from "./chunk.js";
import type { GraphResources } from "./graph-resources.js";
import { editTensors, type ResidualEdits } from "./residual-edits.js";
import type { RotaryTable } from "./rotary-table.js";
import { type Residuals, readTaps, type TapRows, tapTensors } from "./tap-outputs.js";

/** What a run of a prefill graph does besides filling the cache. */
export interface PrefillOptions {
  /** Position of the text's first token: 0 but for tests of far positions. */
  readonly origin?: number;
  /** Is given the tensors of all taps, [chunk.tokens, hiddenSize] each. */
  readonly residuals?: Residuals | TapRows;
  /** Those of the row; null: none. */
  readonly edits?: ResidualEdits | null;
  /** Keeps the chunk's keys and values; a graph whose starting tokens are not turned must have been built for it. */
  readonly archive?: Archive | null;
}

export interface PrefillRun extends PrefillOptions {
  readonly chunk: Chunk;
  readonly ids: ArrayLike<number>;
  /** Tokens of the chunk (0-based) whose logits are returned. */
  readonly wanted: readonly number[];
}

/** A prefill graph of a model: a chunk of one row's text, whose keys and values are stored once the run has succeeded. */
export class PrefillGraph implements Disposable {
  readonly #session: Session;
  readonly #resources: GraphResources;
  readonly #names: PrefillInterface;

  constructor(resources: GraphResources, graph: CompiledGraph<PrefillInterface>) {
    this.#resources = resources;
    this.#names = graph.interface;
    this.#session = Session.load(graph.path, {
      ...resources,
      replays: false,
      weights: resources.weights.tensors,
      prepack: resources.prepacked !== undefined,
    });
  }

  get hostNodes(): readonly HostNode[] {
    return this.#session.hostNodes;
  }

  /** Logits [wanted.length, vocab]. */
  run(cache: LambdaCache, row: number, run: PrefillRun): Float32Array {
    const { activations } = cache;
    const { kvHeads, headDim, vocabSize } = cache.shape;
    const { tokens } = run.chunk;
    const { device } = this.#resources;
    using written = device.inputs();
    const owned: Tensor[] = [];
    const inputs = new Map<string, Tensor>();
    const outputs = new Map<string, Tensor>();
    const own = (tensor: Tensor): Tensor => {
      owned.push(tensor);
      return tensor;
    };
    const output = (name: string, type: ElementType, shape: readonly number[]): Tensor => {
      const tensor = own(device.zeros(type, shape));
      outputs.set(name, tensor);
      return tensor;
    };
    try {
      this.#bindInputs(cache, row, run, written, (name, tensor) => inputs.set(name, own(tensor)));
      this.#bindMasks(cache, row, run, (shape, names) => {
        const mask = own(device.zeros(activations, shape));
        for (const name of names) outputs.set(name, mask);
      });
      const logits = output(this.#names.logits, "float32", [run.wanted.length, vocabSize]);
      const { layers } = this.#names;
      const ofChunk = (name: string): Tensor => output(name, activations, [1, kvHeads, tokens, headDim]);
      const stored = {
        keys: layers.map(({ keys }) => ofChunk(keys.output)),
        values: layers.map(({ values }) => ofChunk(values.output)),
        rawKeys: layers.map(({ rawKey }) => (rawKey === null ? null : ofChunk(rawKey))),
      };
      const { hiddenSize } = this.#resources.model.shape;
      for (const [name, tensor] of editTensors(this.#names.edits, [run.edits ?? null], this.#resources))
        inputs.set(name, own(tensor));
      const taps = tapTensors(run.residuals ? this.#names.taps : [], [1, tokens, hiddenSize], device);
      for (const [name, tensor] of taps) outputs.set(name, own(tensor));
      using binding = new Binding(this.#session, inputs, outputs);
      written.send();
      binding.run();
      run.archive?.store(run.chunk.start, tokens, (layer) => ({
        keys: stored.rawKeys[layer] ?? stored.keys[layer]!,
        keysAt: 0,
        values: stored.values[layer]!,
        valuesAt: 0,
      }));
      cache.commit(row, stored, tokens);
      if (run.residuals) readTaps(this.#names.taps, taps, run.residuals, { first: 0, rows: tokens });
      return logits.read(new Float32Array(logits.size));
    } finally {
      for (const tensor of owned) tensor[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }

  #bindInputs(
    cache: LambdaCache,
    row: number,
    run: PrefillRun,
    written: RunInputs,
    bind: (name: string, tensor: Tensor) => void,
  ): void {
    const { chunk, origin = 0 } = run;
    const filled = (name: string, type: ElementType, shape: readonly number[], values: ArrayLike<number>): void => {
      const tensor = written.zeros(type, shape);
      bind(name, tensor);
      tensor.write(values);
    };
    filled(this.#names.ids, "int64", [1, chunk.tokens], run.ids);
    filled(this.#names.wanted, "int64", [run.wanted.length], run.wanted);
    if (this.#names.positions !== null)
      filled(this.#names.positions, "int64", [1, chunk.tokens], range(chunk.start, chunk.tokens));
    for (const [g, geometry] of this.#names.geometries.entries()) {
      const ring = cache.ring(row, g);
      const apart = geometry.sinks !== null;
      const keys = chunkKeys(ring, chunk, apart);
      if (geometry.rotary !== null) {
        const table = this.#table(g);
        const pair = ({ cos, sin }: RotaryInputs, count: number): [Tensor, Tensor] => {
          const bound = (name: string): Tensor => {
            const tensor = written.zeros("float32", [1, count, table.half]);
            bind(name, tensor);
            return tensor;
          };
          return [bound(cos), bound(sin)];
        };
        table.write(...pair(geometry.rotary, chunk.tokens), 0, range(origin + chunk.start, chunk.tokens));
        if (geometry.sinks !== null) {
          table.writeDistance(...pair(geometry.sinks.farQuery, chunk.tokens), 0, ring.window, chunk.tokens);
          table.write(...pair(geometry.sinks.nearSinks, ring.sinks), 0, range(origin, ring.sinks));
        }
      }
      // The host reads where to cut, wherever the cut is made.
      const pastEnd = Tensor.zeros("int64", [1]);
      bind(geometry.pastEnd, pastEnd);
      pastEnd.write([keys.past]);
      const { from, until } = seenKeys(ring, chunk, keys);
      filled(geometry.seen.tokens, "float32", [1, 1, chunk.tokens, 1], range(0, chunk.tokens));
      filled(geometry.seen.from, "float32", [1, 1, 1, keys.keys], from);
      filled(geometry.seen.until, "float32", [1, 1, 1, keys.keys], until);
      if (geometry.distances !== null) {
        filled(geometry.distances.places, "float32", [1, 1, 1, keys.keys], keyPlaces(ring, chunk, keys));
        filled(geometry.distances.window, "float32", [1], [ring.window]);
      }
      const sinkKeys = cache.sinkKeys[g];
      if (geometry.sinks === null || !sinkKeys) continue;
      const { nearUntil, hidden } = sinkSpans(ring, chunk);
      filled(geometry.sinks.nearUntil, "float32", [1, 1, 1, ring.sinks], nearUntil);
      filled(geometry.sinks.hidden, "float32", [1, 1, 1, ring.sinks], hidden);
      filled(geometry.sinks.column, "int64", [1], [keys.keys - ring.sinks]);
      const size = rowSize(sinkKeys);
      bind(geometry.sinks.keys, sinkKeys.alias([1, ...sinkKeys.shape.slice(1)], row * size));
    }
    for (const [layer, { keys, values }] of this.#names.layers.entries()) {
      for (const [buffer, { input }] of [
        [cache.keys[layer], keys],
        [cache.values[layer], values],
      ] as const) {
        if (buffer === undefined) throw new RangeError(`the cache has no layer ${layer}`);
        bind(input, buffer.alias([1, ...buffer.shape.slice(1)], row * rowSize(buffer)));
      }
    }
  }

  /** One buffer for the masks of all layers of a geometry whose starting tokens are scored apart. */
  #bindMasks(
    cache: LambdaCache,
    row: number,
    { chunk }: PrefillRun,
    bind: (shape: readonly number[], names: readonly string[]) => void,
  ): void {
    for (const [g, { sinks }] of this.#names.geometries.entries()) {
      if (sinks === null) continue;
      const { keys } = chunkKeys(cache.ring(row, g), chunk, true);
      bind([1, sinks.heads, chunk.tokens, keys], sinks.masks);
    }
  }

  #table(geometry: number): RotaryTable {
    const table = this.#resources.rotary[geometry];
    if (!table) throw new RangeError(`geometry ${geometry} has no rotary positions`);
    return table;
  }
}

const range = (start: number, count: number): number[] => Array.from({ length: count }, (_, i) => start + i);
