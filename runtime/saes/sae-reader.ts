import { largestInOrder } from "../../models/largest.js";
import { checkChosen } from "../../models/sae/chosen-activation.js";
import type { CompiledSae } from "../../models/sae/compile-sae.js";
import { FeatureKeeper, type KeptFeatures, NOTHING_KEPT } from "../../models/sae/kept-features.js";
import { prepareInput, type SaeInput } from "../../models/sae/sae-input.js";
import type { SaeOutline } from "../../models/sae/stored-sae.js";
import { Tensor } from "../ort/tensor.js";
import { DecoderSums } from "./decoder-sums.js";
import { checkedRows, type FeatureReader, type RowRequest } from "./feature-reader.js";
import { KeptRows } from "./kept-rows.js";
import { RowProduct } from "./row-product.js";
import { epsLbo, type RowReading, rowsOfBlock, unreadable } from "./row-reading.js";
import { type SaeReaderOptions, SaeResources } from "./sae-resources.js";
import { SaeVectors } from "./sae-vectors.js";

/**
 * One row in f32 is multiplied with W_enc where that lies in the file, which is as fast as memory is; several want a packed
 * copy (4 rows of 576 x 9,216 on 2 cores: 1.8 ms instead of 6.2).
 */
const PACKED_FROM = 2;

/**
 * Reads features off residuals with one SAE: products with its matrices in native code, and the cut here, in f32 but for
 * the cut. Graphs are loaded when they are first needed; memory does not grow with the number of rows.
 */
export class SaeReader implements FeatureReader {
  readonly vectors: SaeVectors;
  readonly #resources: SaeResources;
  readonly #products: RowProduct;
  readonly #keeper: FeatureKeeper;
  readonly #kept: KeptRows;
  readonly #sums: DecoderSums;
  /** [dIn] */
  readonly #encoded: Float64Array;

  constructor(
    readonly sae: CompiledSae,
    options: SaeReaderOptions,
  ) {
    const { description, decoderNorms } = sae;
    this.#resources = new SaeResources(sae, options);
    this.vectors = new SaeVectors(this.#resources);
    this.#products = new RowProduct(this.#resources, "encode", sae.precision === "q8" ? 1 : PACKED_FROM);
    this.#keeper = new FeatureKeeper({ ...description, decoderNorms });
    this.#kept = new KeptRows(description.dSae);
    this.#sums = new DecoderSums(this.#resources);
    this.#encoded = new Float64Array(description.dIn);
  }

  /** Reads when it is asked for the readings: nothing runs beside the host. */
  start(residuals: Float32Array | Tensor, asked: readonly RowRequest[]): () => RowReading[] {
    const { description } = this.sae;
    const values = residuals instanceof Tensor ? residuals.read(new Float32Array(residuals.size)) : residuals;
    checkedRows(values.length, description.dIn, asked);
    for (const { activation } of asked) checkChosen(description, activation);
    const most = rowsOfBlock(description.dSae);
    return () => {
      const readings: RowReading[] = [];
      for (let first = 0; first < asked.length; first += most)
        readings.push(...this.#readBlock(values, asked.slice(first, first + most)));
      return readings;
    };
  }

  [Symbol.dispose](): void {
    for (const each of [this.#products, this.#sums, this.#resources]) each[Symbol.dispose]();
  }

  #readBlock(residuals: Float32Array, asked: readonly RowRequest[]): RowReading[] {
    const { description } = this.sae;
    const { dIn, dOut } = description;
    const rows = asked.map(({ row }) => residuals.subarray(row * dIn, (row + 1) * dIn));
    this.#products.reserve(rows.length);
    const inputs = rows.map((row, i) => {
      const input = prepareInput(description, row, this.#encoded);
      this.#products.write(i, input.encoded);
      return input;
    });
    this.#products.run(rows.length);
    this.#kept.clear();
    const readings = asked.map(({ activation, top }, i): Draft => {
      const input = inputs[i]!;
      const isReadable = !Number.isNaN(input.norm);
      if (isReadable) this.#products.read(i, this.#keeper.row);
      const kept = isReadable ? this.#keeper.keep(activation, input.norm) : NOTHING_KEPT;
      this.#kept.push(kept);
      return isReadable ? reading(kept, input, this.sae, top) : unreadable(Number.NaN);
    });
    if (description.kind === "transcoder") return readings;
    const sums = this.#sums.of(this.#kept);
    for (const [i, each] of readings.entries())
      each.mse = meanSquare(description, rows[i]!, inputs[i]!, sums.subarray(i * dOut, (i + 1) * dOut));
    return readings;
  }
}

/** A reading whose mse is still to come. */
type Draft = { -readonly [Field in keyof RowReading]: RowReading[Field] };

function reading(kept: KeptFeatures, { norm }: SaeInput, sae: CompiledSae, top: number): Draft {
  const { count, squares, sizes, features, activations } = kept;
  const places = new Int32Array(Math.min(top, count));
  largestInOrder(sizes.subarray(0, count), places.length, places);
  const [indices, values] = [new Uint32Array(places.length), new Float32Array(places.length)];
  for (let i = 0; i < places.length; i++) {
    indices[i] = features[places[i]!]!;
    values[i] = activations[places[i]!]!;
  }
  const eps = epsLbo(norm, squares, sae);
  return { l0: count, z: norm, f: Math.sqrt(squares), epsLbo: eps, mse: Number.NaN, indices, values };
}

/** Of x - reconstruction. @param sums [dOut] of activation * decoder row */
function meanSquare(
  { bDec, dIn }: SaeOutline,
  x: Float32Array,
  { scale, shift }: SaeInput,
  sums: Float64Array,
): number {
  let squares = 0;
  for (let i = 0; i < dIn; i++) squares += (x[i]! - ((sums[i]! + bDec[i]!) * scale + shift)) ** 2;
  return squares / dIn;
}
