import { HIDDEN } from "../../models/attention/attention.js";
import type { ModelShape } from "../../models/model-shape.js";
import type { ActivationType } from "../../models/onnx/graph.js";
import { activationBytes } from "../../models/weights/block-format.js";
import { CPU, type Device } from "../ort/device.js";
import type { Tensor } from "../ort/tensor.js";
import type { Retrieval } from "./retrieval.js";

/** Tokens that an archive begins with room for; doubled until there is room for all that it must hold. */
const FIRST_TOKENS = 1024;

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
  /** The type of its keys and values; left out: float32. */
  readonly activations?: ActivationType;
}

/**
 * Every unrotated key and every value of one text, in the layers that retrieve, so that tokens can look at keys that have
 * left the window. Unlike a cache it grows with the text. A key may be retrieved once it is evicted (G <= s <= t - W), and
 * none before k are: until then layers look into a few hidden keys, which costs next to nothing.
 */
export class Archive implements Disposable {
  readonly retrieval: Retrieval;
  /** Changes whenever `of` gives other memory than before. */
  generation = 0;
  /** Layers that retrieve, by number. */
  readonly #layers = new Map<number, { keys: Tensor; values: Tensor }>();
  #hidden: Tensor;
  readonly #nothing: { readonly keys: Tensor; readonly hidden: Tensor };
  /** Tokens [sinks, shown) may be retrieved. */
  #shown: number;

  /** @throws OrtError when there is no memory. */
  constructor(
    readonly shape: ModelShape,
    readonly options: ArchiveOptions,
    /** Where it lies. */
    readonly device: Device = CPU,
  ) {
    const { retrieval, sinks } = options;
    this.retrieval = retrieval;
    this.#shown = sinks;
    this.#hidden = this.#hiding(0);
    this.#nothing = { keys: this.#keysOf(retrieval.k), hidden: this.#hiding(retrieval.k) };
    try {
      for (const layer of retrievingLayers(shape).filter((each) => each >= retrieval.fromLayer))
        this.#layers.set(layer, { keys: this.#keysOf(0), values: this.#keysOf(0) });
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Tokens that it has room for now. */
  get room(): number {
    return this.#hidden.size;
  }

  get bytes(): number {
    return this.#tensors().reduce((sum, tensor) => sum + tensor.bytes, 0);
  }

  /**
   * Makes room for a text of so many tokens, layer by layer.
   * @throws RangeError where the archive was made for fewer; OrtError when there is no memory: the archive is then good for
   * nothing but to be disposed.
   */
  reserve(tokens: number): void {
    const { tokens: most } = this.options;
    if (tokens > most) throw new RangeError(`an archive of ${most} tokens has no room for ${tokens}`);
    const had = this.room;
    if (tokens <= had) return;
    const slots = Math.max(tokens, Math.min(most, Math.max(FIRST_TOKENS, 2 * had)));
    for (const own of this.#layers.values()) {
      own.keys = this.#moved(own.keys, slots);
      own.values = this.#moved(own.values, slots);
    }
    this.#hidden[Symbol.dispose]();
    this.#hidden = this.#hiding(slots);
    // A text shorter than the starting tokens has nothing to show, and no place for it.
    if (this.#shown > this.options.sinks) this.#hidden.fill(0, this.options.sinks, this.#shown - this.options.sinks);
    this.generation++;
  }

  /** Keeps the text's tokens [start, start + tokens), for which room is made; `of` says where a layer's stand. */
  store(start: number, tokens: number, of: (layer: number) => KeysAndValues): void {
    const { kvHeads, headDim } = this.shape;
    this.reserve(start + tokens);
    for (const [layer, own] of this.#layers) {
      const { keys, keysAt, values, valuesAt } = of(layer);
      for (const [target, source, at] of [
        [own.keys, keys, keysAt],
        [own.values, values, valuesAt],
      ] as const) {
        target.copyStretches(source, {
          count: kvHeads,
          length: tokens * headDim,
          sourceOffset: at * headDim,
          sourceStride: slotsOf(source) * headDim,
          offset: start * headDim,
          stride: slotsOf(target) * headDim,
        });
      }
    }
  }

  /** Shows what the token with index `t` may retrieve. */
  showTo(t: number): void {
    const { window, sinks } = this.options;
    const end = t - window + 1;
    if (end - sinks < this.retrieval.k || end <= this.#shown) return;
    if (this.#shown === sinks) this.generation++;
    this.#hidden.fill(0, this.#shown, end - this.#shown);
    this.#shown = end;
  }

  /**
   * What a layer looks into: keys [1, kvHeads, n, headDim], values [kvHeads * n, headDim], what hides them [1, 1, 1, n]. The
   * tensors are the caller's, over memory of the archive.
   */
  of(layer: number): { readonly keys: Tensor; readonly values: Tensor; readonly hidden: Tensor } {
    const own = this.#shown > this.options.sinks ? this.#layers.get(layer) : undefined;
    const { keys, values } = own ?? { keys: this.#nothing.keys, values: this.#nothing.keys };
    const hidden = own ? this.#hidden : this.#nothing.hidden;
    return {
      keys: keys.alias(keys.shape),
      values: values.alias([values.size / this.shape.headDim, this.shape.headDim]),
      hidden: hidden.alias(hidden.shape),
    };
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors()) tensor[Symbol.dispose]();
  }

  #keysOf(slots: number): Tensor {
    const { activations = "float32" } = this.options;
    return this.device.zeros(activations, [1, this.shape.kvHeads, slots, this.shape.headDim]);
  }

  /** A tensor's tokens in one with more room; the old one is gone. */
  #moved(old: Tensor, slots: number): Tensor {
    const { kvHeads, headDim } = this.shape;
    const tensor = this.#keysOf(slots);
    const had = slotsOf(old) * headDim;
    const stretches = { count: kvHeads, length: had, sourceOffset: 0, sourceStride: had };
    tensor.copyStretches(old, { ...stretches, offset: 0, stride: slots * headDim });
    old[Symbol.dispose]();
    return tensor;
  }

  #hiding(slots: number): Tensor {
    const tensor = this.device.zeros("float32", [1, 1, 1, slots]);
    tensor.fill(HIDDEN);
    return tensor;
  }

  #tensors(): Tensor[] {
    const layers = [...this.#layers.values()].flatMap(({ keys, values }) => [keys, values]);
    return [...layers, this.#hidden, this.#nothing.keys, this.#nothing.hidden];
  }
}

const slotsOf = (tensor: Tensor): number => tensor.shape[2] ?? 0;

/** Layers that could retrieve: those with LM-Infinite's window, where positions can be moved. */
export const retrievingLayers = ({ layerGeometries, geometries }: ModelShape): number[] =>
  [...layerGeometries.keys()].filter((layer) => {
    const { window, positions } = geometries[layerGeometries[layer] ?? 0] ?? {};
    return window === "lambda" && positions?.kind !== "alibi";
  });

/** Bytes that an archive takes for a token, at most. */
export const archivedBytes = (shape: ModelShape, activations: ActivationType): number =>
  retrievingLayers(shape).length * shape.kvHeads * shape.headDim * activationBytes(activations) * 2 + 4;
