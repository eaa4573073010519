import type { KeptFeatures } from "../../models/sae/kept-features.js";
import { Binding } from "../ort/binding.js";
import type { Session } from "../ort/session.js";
import type { Tensor } from "../ort/tensor.js";
import type { SaeResources } from "./sae-resources.js";

/** Rows that a thread gathers at a time: they stay in its cache. */
const PART_BYTES = 512 << 10;
const MOST_PARTS = 8;

/**
 * Sums of some decoder rows, gathered by their numbers in native code. The rows of one sum are dealt to as many parts as
 * there are threads, because one product [1, count] x [count, dOut] is slow on several; numbers of rows are rounded up, so
 * that bindings are made for few sizes.
 */
export class GatheredSum implements Disposable {
  readonly #session: Session;
  readonly #parts: number;
  /** Rows of a part at most. */
  readonly #capacity: number;
  /** [parts * capacity] */
  readonly #activations: Tensor;
  readonly #features: Tensor;
  /** [parts, 1, dOut] */
  readonly #sums: Tensor;
  readonly #bindings = new Map<number, Binding>();
  readonly #partSum: Float32Array;
  readonly #total: Float64Array;

  constructor(resources: SaeResources) {
    const { dSae, dOut } = resources.sae.description;
    this.#parts = Math.min(resources.options.threads, MOST_PARTS);
    this.#capacity = Math.min(dSae, Math.max(1, Math.floor(PART_BYTES / (4 * dOut))));
    this.#session = resources.session("sum", false);
    this.#activations = resources.device.zeros("float32", [this.#parts * this.#capacity]);
    this.#features = resources.device.zeros("int32", [this.#parts * this.#capacity]);
    this.#sums = resources.device.zeros("float32", [this.#parts, 1, dOut]);
    this.#partSum = new Float32Array(dOut);
    this.#total = new Float64Array(dOut);
  }

  /** Sum [dOut] of activation * decoder row, valid until the next call. */
  of({ count, features, activations }: KeptFeatures): Float64Array {
    const most = this.#parts * this.#capacity;
    this.#total.fill(0);
    for (let first = 0; first < count; first += most) {
      const here = Math.min(most, count - first);
      const rows = Math.min(roundedUp(Math.ceil(here / this.#parts)), this.#capacity);
      this.#activations.write(activations.subarray(first, first + here));
      this.#features.write(features.subarray(first, first + here));
      // Row 0 times 0.
      for (const each of [this.#activations, this.#features]) each.fill(0, here, this.#parts * rows - here);
      this.#binding(rows).run();
      for (let part = 0; part < this.#parts; part++) {
        this.#sums.read(this.#partSum, part * this.#partSum.length);
        for (let i = 0; i < this.#total.length; i++) this.#total[i]! += this.#partSum[i]!;
      }
    }
    return this.#total;
  }

  [Symbol.dispose](): void {
    for (const each of this.#bindings.values()) each[Symbol.dispose]();
    for (const each of [this.#activations, this.#features, this.#sums]) each[Symbol.dispose]();
  }

  #binding(rows: number): Binding {
    const known = this.#bindings.get(rows);
    if (known !== undefined) return known;
    using activations = this.#activations.alias([this.#parts, 1, rows]);
    using features = this.#features.alias([this.#parts, rows]);
    const inputs = new Map([
      ["activations", activations],
      ["features", features],
    ]);
    // The binding holds what is bound.
    const binding = new Binding(this.#session, inputs, new Map([["sums", this.#sums]]));
    this.#bindings.set(rows, binding);
    return binding;
  }
}

/** To a multiple of a sixteenth of the power of two below. */
function roundedUp(rows: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(rows)) - 4));
  return Math.ceil(rows / step) * step;
}
