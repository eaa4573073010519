import { permutation } from "./permutation.js";
import type { RowFile } from "./row-file.js";

/** The rows of one refill of a buffer, in the order in which they are served. */
export class MixedRows implements Disposable {
  readonly #order: Uint32Array;
  #served = 0;

  /**
   * @param refill decides the order, with the seed
   * @param end rows that are served of them
   */
  constructor(
    readonly file: RowFile,
    seed: number,
    readonly refill: number,
    readonly end: number,
  ) {
    this.#order = permutation(file.rows, seed, refill);
  }

  /** Rows that were served. */
  get served(): number {
    return this.#served;
  }

  /** The next rows, as many as `into` has room for. */
  next(into: Float32Array): void {
    const rows = into.length / this.file.width;
    this.file.gather(this.#order.subarray(this.#served, this.#served + rows), into);
    this.#served += rows;
  }

  /**
   * Copies the rows that were not served.
   * @param size rows that the other file will have
   */
  keep(to: RowFile, size: number): void {
    const { file } = this;
    const { width } = file;
    const left = new Uint8Array(file.rows);
    for (const row of this.#order.subarray(this.#served)) left[row] = 1;
    for (const { first, rows } of file.blocks()) {
      let count = 0;
      for (let row = 0; row * width < rows.length; row++) {
        if (left[first + row] !== 1) continue;
        rows.copyWithin(count * width, row * width, (row + 1) * width);
        count++;
      }
      to.append(rows.subarray(0, count * width), size - to.rows);
    }
  }

  [Symbol.dispose](): void {
    this.file[Symbol.dispose]();
  }
}
