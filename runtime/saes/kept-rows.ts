import type { KeptFeatures } from "../../models/sae/kept-features.js";

/** The kept features of one row. */
export type KeptRow = Pick<KeptFeatures, "features" | "activations">;

/** The kept features of some rows, one row's behind the other's, in memory that grows to what they need. */
export class KeptRows {
  #features = new Uint32Array(1024);
  #activations = new Float32Array(1024);
  /** Where each row ends. */
  readonly #ends: number[] = [];
  /** [dSae] of each feature its place in `union`, from 1 on; 0: no row keeps it. */
  readonly #places: Int32Array;

  constructor(dSae: number) {
    this.#places = new Int32Array(dSae);
  }

  get rows(): number {
    return this.#ends.length;
  }

  /** Kept features of all rows together. */
  get count(): number {
    return this.#ends.at(-1) ?? 0;
  }

  /** A view of all kept features, one row's behind the other's, valid until the next `push`. */
  get all(): KeptRow {
    const { count } = this;
    return { features: this.#features.subarray(0, count), activations: this.#activations.subarray(0, count) };
  }

  clear(): void {
    this.#ends.length = 0;
  }

  push({ count, features, activations }: Pick<KeptFeatures, "count" | "features" | "activations">): void {
    const start = this.count;
    this.#reserve(start + count);
    this.#features.set(features.subarray(0, count), start);
    this.#activations.set(activations.subarray(0, count), start);
    this.#ends.push(start + count);
  }

  /** Views of a row, valid until the next `push`. */
  row(row: number): KeptRow {
    const [start, end] = [this.#ends[row - 1] ?? 0, this.#ends[row] ?? 0];
    return { features: this.#features.subarray(start, end), activations: this.#activations.subarray(start, end) };
  }

  /** Features that some row keeps, rising. */
  union(): Uint32Array {
    const places = this.#places;
    places.fill(0);
    let count = 0;
    for (let i = 0; i < this.count; i++) {
      const feature = this.#features[i]!;
      count += 1 - places[feature]!;
      places[feature] = 1;
    }
    const union = new Uint32Array(count);
    for (let feature = 0, found = 0; found < count; feature++) {
      if (places[feature] === 0) continue;
      union[found++] = feature;
      places[feature] = found;
    }
    return union;
  }

  /** Activations [rows, union] of the last `union`, 0 where a row does not keep a feature. */
  dense(union: Uint32Array): Float32Array {
    const dense = new Float32Array(this.rows * union.length);
    for (let row = 0; row < this.rows; row++) {
      const { features, activations } = this.row(row);
      const first = row * union.length - 1;
      for (let i = 0; i < features.length; i++) dense[first + this.#places[features[i]!]!] = activations[i]!;
    }
    return dense;
  }

  #reserve(count: number): void {
    if (count <= this.#features.length) return;
    const room = 2 ** Math.ceil(Math.log2(count));
    const [features, activations] = [this.#features, this.#activations];
    this.#features = new Uint32Array(room);
    this.#activations = new Float32Array(room);
    this.#features.set(features);
    this.#activations.set(activations);
  }
}
