import { Binding } from "../ort/binding.js";
import type { Tensor } from "../ort/tensor.js";
import type { SaeResources } from "./sae-resources.js";

/** Rows of W_dec that a thread gathers at a time: they stay in its cache. */
const PART_BYTES = 512 << 10;
const MOST_PARTS = 8;

/**
 * Sums of some decoder rows, gathered by their numbers in native code. The features are dealt to as many parts as there are
 * threads, because one product [rows, count] x [count, dOut] is slow on several; their numbers are rounded up, so that
 * bindings are made for few sizes.
 */
export class GatheredSum implements Disposable {
  readonly #resources: SaeResources;
  readonly #parts: number;
  /** Features of a part at most. */
  readonly #capacity: number;
  /** [parts * capacity] */
  readonly #features: Tensor;
  /** Rows that there is room for below. */
  #rows = 0;
  /** [parts * rows * capacity] */
  #activations: Tensor | undefined;
  #dealt = new Float32Array();
  /** [parts * rows * dOut] */
  #sums: Tensor | undefined;
  #received = new Float32Array();
  /** By rows and features of a part. */
  readonly #bindings = new Map<string, Binding>();

  constructor(resources: SaeResources) {
    const { dSae, dOut } = resources.sae.description;
    this.#resources = resources;
    this.#parts = Math.min(resources.options.threads, MOST_PARTS);
    this.#capacity = Math.min(dSae, Math.max(1, Math.floor(PART_BYTES / (4 * dOut))));
    this.#features = resources.device.zeros("int32", [this.#parts * this.#capacity]);
  }

  /**
   * Writes sums [rows, dOut] of activation * decoder row to `out`.
   * @param features of every row
   * @param activations [rows, features]
   */
  of(features: Uint32Array, activations: Float32Array, out: Float64Array): void {
    const { dOut } = this.#resources.sae.description;
    const rows = out.length / dOut;
    out.fill(0);
    if (features.length === 0) return;
    this.#reserve(rows);
    const most = this.#parts * this.#capacity;
    for (let first = 0; first < features.length; first += most) {
      const here = features.subarray(first, first + most);
      const share = Math.min(this.#capacity, roundedUp(Math.ceil(here.length / this.#parts), rows));
      this.#features.write(here);
      // Row 0 times 0.
      this.#features.fill(0, here.length, this.#parts * share - here.length);
      this.#activations?.write(this.#deal(activations, rows, first, share));
      this.#binding(rows, share).run();
      const received = this.#received.subarray(0, this.#parts * out.length);
      this.#sums?.read(received);
      for (let part = 0; part < this.#parts; part++) {
        const start = part * out.length;
        for (let i = 0; i < out.length; i++) out[i]! += received[start + i]!;
      }
    }
  }

  [Symbol.dispose](): void {
    this.#release();
    this.#features[Symbol.dispose]();
  }

  /** Activations of the features from `first` on: [parts, rows, share], 0 where there are no more. */
  #deal(activations: Float32Array, rows: number, first: number, share: number): Float32Array {
    const dealt = this.#dealt.subarray(0, this.#parts * rows * share).fill(0);
    const width = activations.length / rows;
    for (let part = 0; part < this.#parts; part++) {
      const [start, end] = [first + part * share, first + (part + 1) * share];
      for (let row = 0; start < width && row < rows; row++)
        dealt.set(
          activations.subarray(row * width + start, row * width + Math.min(end, width)),
          (part * rows + row) * share,
        );
    }
    return dealt;
  }

  #reserve(rows: number): void {
    if (rows <= this.#rows) return;
    this.#release();
    const { device, sae } = this.#resources;
    this.#rows = 2 ** Math.ceil(Math.log2(rows));
    const room = this.#parts * this.#rows;
    this.#activations = device.zeros("float32", [room * this.#capacity]);
    this.#sums = device.zeros("float32", [room * sae.description.dOut]);
    this.#dealt = new Float32Array(this.#activations.size);
    this.#received = new Float32Array(this.#sums.size);
  }

  #release(): void {
    for (const each of this.#bindings.values()) each[Symbol.dispose]();
    this.#bindings.clear();
    this.#activations?.[Symbol.dispose]();
    this.#sums?.[Symbol.dispose]();
  }

  #binding(rows: number, share: number): Binding {
    const key = `${rows} ${share}`;
    const known = this.#bindings.get(key);
    if (known !== undefined) return known;
    if (this.#activations === undefined || this.#sums === undefined) throw new RangeError(`no room for ${rows} rows`);
    using activations = this.#activations.alias([this.#parts, rows, share]);
    using features = this.#features.alias([this.#parts, share]);
    using sums = this.#sums.alias([this.#parts, rows, this.#resources.sae.description.dOut]);
    const inputs = new Map([
      ["activations", activations],
      ["features", features],
    ]);
    // The binding holds what is bound.
    const binding = new Binding(this.#resources.session("sum", false), inputs, new Map([["sums", sums]]));
    this.#bindings.set(key, binding);
    return binding;
  }
}

/** Of one row to a multiple of a sixteenth of the power of two below, of several, which have other sizes too, of a quarter. */
function roundedUp(features: number, rows: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(features)) - (rows === 1 ? 4 : 2)));
  return Math.ceil(features / step) * step;
}
