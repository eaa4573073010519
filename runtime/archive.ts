import type { ModelShape } from "../models/graph-interface.js";
import { HIDDEN } from "./chunk.js";
import { Tensor } from "./ort/tensor.js";
import type { Retrieval } from "./retrieval.js";

/** Where neighbouring tokens of one layer stand, each tensor [1, kvHeads, its own tokens, headDim]. */
export interface KeysAndValues {
  /** Unrotated, the first token's at `keysAt`. */
  readonly keys: Tensor;
  readonly keysAt: number;
  readonly values: Tensor;
  readonly valuesAt: number;
}

export interface ArchiveOptions {
  readonly retrieval: Retrieval;
  readonly window: number;
  readonly sinks: number;
  /** Longest text that it must hold. */
  readonly tokens: number;
}

/**
 * Every unrotated key and every value of one text, in the layers that retrieve, so that tokens can look at keys that have
 * left the window. Unlike a cache it takes memory for every token, all of it when it is made: a text that was begun is
 * not cut short for want of memory. A key may be retrieved once it is evicted (G <= s <= t - W), and none before k are.
 */
export class Archive implements Disposable {
  readonly retrieval: Retrieval;
  readonly #made: Tensor[] = [];
  /** Layers that retrieve, by number. */
  readonly #layers = new Map<number, { readonly keys: Tensor; readonly values: Tensor }>();
  readonly #hidden: Tensor;
  /** What the other layers look into: k hidden keys. */
  readonly #nothing: { readonly keys: Tensor; readonly hidden: Tensor };
  /** Tokens [sinks, shown) may be retrieved. */
  #shown: number;

  /** @throws OrtError when there is no memory. */
  constructor(
    readonly shape: ModelShape,
    readonly options: ArchiveOptions,
  ) {
    const { retrieval, sinks } = options;
    this.retrieval = retrieval;
    this.#shown = sinks;
    try {
      const slots = Math.max(options.tokens, retrieval.k); // TopK wants k to choose from
      for (const layer of retrievingLayers(shape).filter((each) => each >= retrieval.fromLayer))
        this.#layers.set(layer, { keys: this.#keysOf(slots), values: this.#keysOf(slots) });
      this.#hidden = this.#hiding(slots);
      this.#nothing = { keys: this.#keysOf(retrieval.k), hidden: this.#hiding(retrieval.k) };
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get bytes(): number {
    return this.#made.reduce((sum, tensor) => sum + tensor.bytes, 0);
  }

  /**
   * Keeps the text's tokens [start, start + tokens); `of` says where a layer's stand.
   * @throws RangeError where there is no room for them.
   */
  store(start: number, tokens: number, of: (layer: number) => KeysAndValues): void {
    const { kvHeads, headDim } = this.shape;
    if (start + tokens > this.options.tokens)
      throw new RangeError(`an archive of ${this.options.tokens} tokens has no room for ${start + tokens}`);
    for (const [layer, own] of this.#layers) {
      const { keys, keysAt, values, valuesAt } = of(layer);
      for (const [target, source, at] of [
        [own.keys, keys, keysAt],
        [own.values, values, valuesAt],
      ] as const) {
        const slots = (tensor: Tensor): number => tensor.shape[2] ?? 0;
        for (let head = 0; head < kvHeads; head++) {
          const from = (head * slots(source) + at) * headDim;
          target.copyFrom(source, from, (head * slots(target) + start) * headDim, tokens * headDim);
        }
      }
    }
  }

  /** Shows what the token with index `t` may retrieve. */
  showTo(t: number): void {
    const { window, sinks } = this.options;
    const end = t - window + 1;
    if (end - sinks < this.retrieval.k || end <= this.#shown) return;
    this.#hidden.fill(0, this.#shown, end - this.#shown);
    this.#shown = end;
  }

  /**
   * What a layer looks into: keys [1, kvHeads, n, headDim], values [kvHeads * n, headDim], what hides them [1, 1, 1, n]. The
   * tensors are the caller's, over memory of the archive.
   */
  of(layer: number): { readonly keys: Tensor; readonly values: Tensor; readonly hidden: Tensor } {
    const own = this.#layers.get(layer);
    const { keys, values } = own ?? { keys: this.#nothing.keys, values: this.#nothing.keys };
    const hidden = own ? this.#hidden : this.#nothing.hidden;
    const { headDim } = this.shape;
    return {
      keys: keys.alias(keys.shape),
      values: values.alias([values.size / headDim, headDim]),
      hidden: hidden.alias(hidden.shape),
    };
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#made) tensor[Symbol.dispose]();
  }

  #keysOf(slots: number): Tensor {
    const tensor = Tensor.zeros("float32", [1, this.shape.kvHeads, slots, this.shape.headDim]);
    this.#made.push(tensor);
    return tensor;
  }

  #hiding(slots: number): Tensor {
    const tensor = Tensor.zeros("float32", [1, 1, 1, slots]);
    this.#made.push(tensor);
    tensor.fill(HIDDEN);
    return tensor;
  }
}

/** Layers that could retrieve: those with LM-Infinite's window, where positions can be moved. */
export const retrievingLayers = ({ layerGeometries, geometries }: ModelShape): number[] =>
  [...layerGeometries.keys()].filter((layer) => {
    const { window, positions } = geometries[layerGeometries[layer] ?? 0] ?? {};
    return window === "lambda" && positions?.kind !== "alibi";
  });

/** Bytes that an archive takes for a token, at most. */
export const archivedBytes = (shape: ModelShape): number =>
  retrievingLayers(shape).length * shape.kvHeads * shape.headDim * 4 * 2 + 4;
