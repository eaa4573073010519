import { GatheredSum } from "./gathered-sum.js";
import type { KeptRows } from "./kept-rows.js";
import { RowProduct } from "./row-product.js";
import type { SaeResources } from "./sae-resources.js";

/**
 * Sums of the decoder rows of kept features, for some rows at once. In f32 the rows of W_dec are gathered, for each row or
 * for all together; where W_dec is small and most of it is needed, all are multiplied with a packed copy. In 8 bits a row
 * that keeps many is multiplied with all of W_dec; which way a row goes depends on that row alone there, so that its sum
 * does not depend on the others.
 */
export class DecoderSums implements Disposable {
  readonly #resources: SaeResources;
  readonly #gathered: GatheredSum;
  #product: RowProduct | undefined;
  #sums = new Float64Array();
  #dense: Float32Array | undefined;

  constructor(resources: SaeResources) {
    this.#resources = resources;
    this.#gathered = new GatheredSum(resources);
  }

  /** Sums [rows, dOut] of activation * decoder row, valid until the next call. */
  of(kept: KeptRows): Float64Array {
    const { description, precision } = this.#resources.sae;
    const { dSae, dOut } = description;
    const size = kept.rows * dOut;
    if (size > this.#sums.length) this.#sums = new Float64Array(size);
    const sums = this.#sums.subarray(0, size);
    const rows = Array.from({ length: kept.rows }, (_, row) => row);
    if (precision === "q8") {
      const isDense = (row: number) => kept.row(row).features.length > DENSE_SHARE * dSae;
      this.#multiply(kept, rows.filter(isDense), sums);
      for (const row of rows) if (!isDense(row)) this.#gather(kept, row, sums);
      return sums;
    }
    const union = kept.rows > 1 ? kept.union() : null;
    if (union === null || !isTogetherCheaper(kept.rows, union.length, kept.count))
      for (const row of rows) this.#gather(kept, row, sums);
    else if (dSae * dOut <= SMALL_DECODER && union.length > dSae / 2) this.#multiply(kept, rows, sums);
    else this.#gathered.of(union, kept.dense(union), sums);
    return sums;
  }

  [Symbol.dispose](): void {
    this.#gathered[Symbol.dispose]();
    this.#product?.[Symbol.dispose]();
  }

  #gather(kept: KeptRows, row: number, sums: Float64Array): void {
    const { dOut } = this.#resources.sae.description;
    const { features, activations } = kept.row(row);
    this.#gathered.of(features, activations, sums.subarray(row * dOut, (row + 1) * dOut));
  }

  /** Some of the rows, with all of W_dec. */
  #multiply(kept: KeptRows, rows: readonly number[], sums: Float64Array): void {
    if (rows.length === 0) return;
    const { dSae, dOut } = this.#resources.sae.description;
    this.#product ??= new RowProduct(this.#resources, "decode");
    this.#product.reserve(rows.length);
    this.#dense ??= new Float32Array(dSae);
    for (const [at, row] of rows.entries()) {
      const { features, activations } = kept.row(row);
      this.#dense.fill(0);
      for (let i = 0; i < features.length; i++) this.#dense[features[i]!] = activations[i]!;
      this.#product.write(at, this.#dense);
    }
    this.#product.run(rows.length);
    const sum = new Float32Array(dOut);
    for (const [at, row] of rows.entries()) {
      this.#product.read(at, sum);
      sums.set(sum, row * dOut);
    }
  }
}

/** The share of dSae rows of W_dec that are gathered in the time of a product with all of it in 8 bits (576 x 9,216 on 2 cores). */
const DENSE_SHARE = 0.1;

/** Numbers of a W_dec that may lie in memory a second time: 16 rows of 1,024 x 192 take 64 us with a packed copy, not 124. */
const SMALL_DECODER = 1 << 20;

/**
 * Whether the `union` of features that some of the rows keep is gathered, and every row multiplied with all of it, in less
 * time than each row's own are gathered, `count` together (192 x 1,024 and 768 x 12,288, 2 to 16 rows, one thread).
 */
function isTogetherCheaper(rows: number, union: number, count: number): boolean {
  return union * (1 + 0.08 * rows) < count;
}
