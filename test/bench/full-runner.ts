import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describeModel } from "../../models/architectures/index.js";
import type { CompiledGraph, CompiledModel } from "../../models/compile.js";
import { openModelSource } from "../../models/model-source.js";
import { openStored } from "../../models/stored-model.js";
import { RotaryTable } from "../../runtime/graphs/rotary-table.js";
import { Binding } from "../../runtime/ort/binding.js";
import { PrepackedWeights, Session } from "../../runtime/ort/session.js";
import { Tensor } from "../../runtime/ort/tensor.js";
import { openWeights } from "../../runtime/ort/weights.js";
import { buildFull, type FullInterface, type FullKind } from "./full-attention.js";

/** Keys and values of one text, all of them: per layer [1, kvHeads, slots, headDim], and what every run of it shares. */
class FullCache implements Disposable {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly cos: Tensor;
  readonly sin: Tensor;
  /** Tokens that it holds. */
  count = 0;
  /** Bound for single tokens once one was decoded. */
  readonly steps = new Map<FullKind, Run>();

  constructor(
    { shape }: CompiledModel,
    readonly slots: number,
    table: RotaryTable,
  ) {
    const { kvHeads, headDim } = shape;
    const buffers = () =>
      Array.from({ length: shape.layers }, () => Tensor.zeros("float32", [1, kvHeads, slots, headDim]));
    [this.keys, this.values] = [buffers(), buffers()];
    this.cos = Tensor.zeros("float32", [slots, table.half]);
    this.sin = Tensor.zeros("float32", [slots, table.half]);
    const positions = Array.from({ length: slots }, (_, i) => i);
    table.write(this.cos, this.sin, 0, positions);
  }

  /** Of keys and values. */
  get bytes(): number {
    return [...this.keys, ...this.values].reduce((sum, tensor) => sum + tensor.bytes, 0);
  }

  [Symbol.dispose](): void {
    for (const step of this.steps.values()) step[Symbol.dispose]();
    for (const tensor of [...this.keys, ...this.values, this.cos, this.sin]) tensor[Symbol.dispose]();
  }
}

export type { FullCache };

/** A run of a certain number of tokens and wanted logits, bound to a cache. */
interface Run extends Disposable {
  readonly ids: Tensor;
  readonly wanted: Tensor;
  readonly last: Tensor;
  readonly total: Tensor;
  readonly logits: Tensor;
  readonly binding: Binding;
}

interface FullGraph {
  readonly session: Session;
  readonly names: FullInterface;
}

/** Runs a model with full attention, on caches that are as long as their texts will be. */
export class FullRunner implements Disposable {
  readonly #owned: Disposable[] = [];
  readonly #graphs: Readonly<Record<FullKind, FullGraph>>;
  readonly #table: RotaryTable;

  /** @param path of the model that `model` was compiled from */
  constructor(
    path: string,
    readonly model: CompiledModel,
    threads: number,
  ) {
    const weights = this.#own(openWeights(model.weights));
    const prepacked = this.#own(new PrepackedWeights());
    const options = { threads, weights: weights.tensors, prepacked, prepack: true };
    const load = (kind: FullKind): FullGraph => {
      const graph = build(path, kind, model);
      return { session: this.#own(Session.load(graph.path, options)), names: graph.interface };
    };
    this.#graphs = { gqa: load("gqa"), products: load("products") };
    const positions = model.shape.geometries[0]?.positions;
    if (positions?.kind !== "rotary") throw new RangeError("full attention needs rotary positions");
    this.#table = new RotaryTable(positions.rope, positions.rotaryDim, Number.POSITIVE_INFINITY);
  }

  openCache(slots: number): FullCache {
    return new FullCache(this.model, slots, this.#table);
  }

  /** Appends a chunk of a text: logits [wanted.length, vocab] of the wanted tokens of the chunk (0-based). */
  prefill(cache: FullCache, ids: readonly number[], wanted: readonly number[] = []): Float32Array {
    using run = this.#bind(cache, "gqa", ids.length, wanted.length);
    run.wanted.write(wanted);
    return this.#run(cache, run, ids);
  }

  /** Appends one token: logits [vocab]. `products` is right at the last slot of the cache alone: it attends to all. */
  decode(cache: FullCache, token: number, kind: FullKind = "gqa"): Float32Array {
    if (kind === "products" && cache.count !== cache.slots - 1)
      throw new RangeError(`a token at ${cache.count} would attend to ${cache.slots} slots`);
    const step = cache.steps.get(kind) ?? this.#bind(cache, kind, 1, 1);
    cache.steps.set(kind, step);
    return this.#run(cache, step, [token]);
  }

  [Symbol.dispose](): void {
    for (const each of this.#owned) each[Symbol.dispose]();
  }

  #run(cache: FullCache, run: Run, ids: readonly number[]): Float32Array {
    const total = cache.count + ids.length;
    if (total > cache.slots) throw new RangeError(`${total} tokens do not fit into a cache of ${cache.slots}`);
    run.ids.write(ids);
    run.last.write([total - 1]);
    run.total.write([total]);
    run.binding.run();
    cache.count = total;
    return run.logits.read(new Float32Array(run.logits.size));
  }

  #bind(cache: FullCache, kind: FullKind, tokens: number, wanted: number): Run {
    const { session, names } = this.#graphs[kind];
    const { cos, sin } = cache;
    const own = {
      ids: Tensor.zeros("int64", [1, tokens]),
      wanted: Tensor.zeros("int64", [wanted]),
      last: Tensor.zeros("int32", [1]),
      total: Tensor.zeros("int32", [1]),
      logits: Tensor.zeros("float32", [wanted, this.model.shape.vocabSize]),
    };
    const inputs = new Map([
      [names.ids, own.ids],
      [names.wanted, own.wanted],
      [names.last, own.last],
      [names.total, own.total],
      [names.rotary.cos, cos],
      [names.rotary.sin, sin],
    ]);
    const outputs = new Map([[names.logits, own.logits]]);
    for (const [layer, { keys, values }] of names.layers.entries()) {
      for (const [{ input, output }, buffer] of [
        [keys, cache.keys[layer]],
        [values, cache.values[layer]],
      ] as const) {
        if (buffer === undefined) throw new RangeError(`the cache has no layer ${layer}`);
        inputs.set(input, buffer);
        outputs.set(output, buffer);
      }
    }
    const binding = new Binding(session, inputs, outputs);
    const dispose = () => {
      binding[Symbol.dispose]();
      for (const tensor of Object.values(own)) tensor[Symbol.dispose]();
    };
    return { ...own, binding, [Symbol.dispose]: dispose };
  }

  #own<T extends Disposable>(each: T): T {
    this.#owned.unshift(each);
    return each;
  }
}

/** Writes the graph beside the model's weights. */
function build(path: string, kind: FullKind, { weights, precision }: CompiledModel): CompiledGraph<FullInterface> {
  const source = openModelSource(path);
  const stored = openStored(source, describeModel(source.config()));
  const { model } = stored;
  using checkpoint = stored.checkpoint;
  const dtypes = new Map([...checkpoint.names()].map((name) => [name, checkpoint.dtype(name)]));
  const graph = buildFull(model, kind, { precision, dtypes, weightsFile: "weights.bin" });
  const file = join(dirname(weights.path), `full-${kind}.onnx`);
  writeFileSync(file, graph.bytes);
  return { path: file, interface: graph.interface };
}
