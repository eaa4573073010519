import { GatheredSum } from "./gathered-sum.js";
import type { KeptRows } from "./kept-rows.js";
import { RowProduct } from "./row-product.js";
import type { SaeResources } from "./sae-resources.js";

/**
 * Sums of the decoder rows of kept features, for some rows at once. In f32 the rows of W_dec are gathered, for each row
 * apart or for all together, or all of W_dec is multiplied with, whichever takes the least time. In 8 bits a row that keeps
 * many is multiplied with all of W_dec; which way a row goes depends on that row alone there, so that its sum does not
 * depend on the others.
 */
export class DecoderSums implements Disposable {
  readonly #resources: SaeResources;
  readonly #isSmall: boolean;
  readonly #gathered: GatheredSum;
  #product: RowProduct | undefined;
  #sums = new Float64Array();
  #dense: Float32Array | undefined;

  constructor(resources: SaeResources) {
    const { dSae, dOut } = resources.sae.description;
    this.#resources = resources;
    this.#isSmall = dSae * dOut <= SMALL_DECODER;
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
    const union = kept.rows > 1 ? kept.union() : kept.row(0).features;
    // In those of gathering a row of W_dec (192 x 1,024 and 768 x 12,288, 1 to 128 rows, one thread).
    const times = {
      apart: kept.count,
      together: union.length * (1 + 0.1 * kept.rows),
      whole: dSae * (this.#isSmall ? 0.1 * (1.5 + kept.rows) : 2 + 0.075 * kept.rows),
    };
    const least = Math.min(...Object.values(times));
    if (times.apart === least) for (const row of rows) this.#gather(kept, row, sums);
    else if (times.together === least) this.#gathered.of(union, kept.dense(union), sums);
    else this.#multiply(kept, rows, sums);
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
    const packedFrom = this.#isSmall || this.#resources.sae.precision === "q8" ? 1 : Number.POSITIVE_INFINITY;
    this.#product ??= new RowProduct(this.#resources, "decode", packedFrom);
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

/** Numbers of a W_dec that may lie in memory a second time, packed, which makes a product with it several times as fast. */
const SMALL_DECODER = 1 << 20;
