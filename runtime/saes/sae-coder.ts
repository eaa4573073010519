import type { CompiledSae } from "../../models/sae/compile-sae.js";
import { FeatureKeeper, NOTHING_KEPT } from "../../models/sae/kept-features.js";
import { prepareInput } from "../../models/sae/sae-input.js";
import { DecoderSums } from "./decoder-sums.js";
import { checkedRows } from "./feature-reader.js";
import { KeptRows } from "./kept-rows.js";
import { RowProduct } from "./row-product.js";
import { rowsOfBlock } from "./row-reading.js";
import { type SaeReaderOptions, SaeResources } from "./sae-resources.js";

/**
 * Rows of residuals as an SAE's features: those of row r are [starts[r], starts[r + 1]) of `features` and `activations`, in
 * no particular order. A row that holds NaN has none, and NaN for all of its numbers.
 */
export interface Codes {
  readonly rows: number;
  /** [rows + 1] */
  readonly starts: Uint32Array;
  readonly features: Uint32Array;
  /** In the SAE's own scale, all above 0. */
  readonly activations: Float32Array;
  /** [rows] Normalised, x is (x - shift) * factor. */
  readonly factors: Float64Array;
  /** [rows] The reconstruction is (W_dec's rows times activations + b_dec) * scale + shift. */
  readonly scales: Float64Array;
  readonly shifts: Float64Array;
  /** [rows] |normalised x - b_dec|. */
  readonly norms: Float64Array;
  /** [rows] Sum of the kept (activation * |decoder row|)^2. */
  readonly squares: Float64Array;
  /** [rows] The cut of top-AFA, places that hold 0 included; null for SAEs of another kind. */
  readonly cuts: Uint32Array | null;
}

/** The same, and what the features make of the rows. */
export interface CodedRows extends Codes {
  /** [rows, dIn] in the scale of the residuals. */
  readonly reconstruction: Float32Array;
  /** [rows] |normalised x - normalised reconstruction|^2. */
  readonly normalisedErrors: Float64Array;
}

/** Rows from which on W_enc is read from a packed copy, as in `SaeReader`. */
const PACKED_FROM = 2;

/**
 * Codes rows of residuals with an autoencoder, by its own activation, and keeps every feature that it keeps: what training,
 * judging and probing need of an SAE. Products with matrices are in float32, all else is in float64. What it works in is as
 * large as a block of rows, however many it is given.
 */
export class SaeCoder implements Disposable {
  readonly #resources: SaeResources;
  readonly #products: RowProduct;
  readonly #keeper: FeatureKeeper;
  readonly #sums: DecoderSums;
  readonly #block: number;

  /** @throws RangeError for a transcoder, which reconstructs nothing */
  constructor(
    readonly sae: CompiledSae,
    options: SaeReaderOptions,
  ) {
    const { description, decoderNorms } = sae;
    if (description.kind === "transcoder") throw new RangeError(`${description.file} is a transcoder`);
    this.#resources = new SaeResources(sae, options);
    this.#products = new RowProduct(this.#resources, "encode", sae.precision === "q8" ? 1 : PACKED_FROM);
    this.#keeper = new FeatureKeeper({ ...description, decoderNorms });
    this.#sums = new DecoderSums(this.#resources);
    this.#block = rowsOfBlock(description.dSae);
  }

  /** The features of residuals [rows, dIn]. @throws RangeError where they are not whole rows */
  encode(residuals: Float32Array): Codes {
    return this.#run(residuals, () => {});
  }

  /** The features of residuals [rows, dIn], and their reconstruction. @throws RangeError where they are not whole rows */
  code(residuals: Float32Array): CodedRows {
    const { dIn, bDec, subtractsBDec } = this.sae.description;
    const reconstruction = new Float32Array(residuals.length);
    const normalisedErrors = new Float64Array(residuals.length / dIn);
    const codes = this.#run(residuals, ({ first, kept, encoded, codes }) => {
      const sums = this.#sums.of(kept);
      for (let i = 0; i < kept.rows; i++) {
        const row = first + i;
        const [scale, shift] = [codes.scales[row]!, codes.shifts[row]!];
        let squares = 0;
        for (let at = 0; at < dIn; at++) {
          const own = sums[i * dIn + at]!;
          const output = own + bDec[at]!;
          squares += (encoded[i * dIn + at]! - (subtractsBDec ? own : output)) ** 2;
          reconstruction[row * dIn + at] = output * scale + shift;
        }
        normalisedErrors[row] = squares;
      }
    });
    return { ...codes, reconstruction, normalisedErrors };
  }

  [Symbol.dispose](): void {
    for (const each of [this.#products, this.#sums, this.#resources]) each[Symbol.dispose]();
  }

  #run(residuals: Float32Array, each: (block: Block) => void): Codes {
    const { dIn, activation } = this.sae.description;
    const rows = checkedRows(residuals.length, dIn, []);
    const codes = {
      rows,
      starts: new Uint32Array(rows + 1),
      factors: new Float64Array(rows),
      scales: new Float64Array(rows),
      shifts: new Float64Array(rows),
      norms: new Float64Array(rows),
      squares: new Float64Array(rows),
      cuts: activation.kind === "top-afa" ? new Uint32Array(rows) : null,
    };
    const kept = new KeptRows(this.sae.description.dSae);
    const features: Uint32Array[] = [];
    const activations: Float32Array[] = [];
    for (let first = 0; first < rows; first += this.#block) {
      const encoded = this.#encodeBlock(residuals, first, Math.min(this.#block, rows - first), kept, codes);
      each({ first, kept, encoded, codes });
      const { features: found, activations: values } = kept.all;
      features.push(found.slice());
      activations.push(values.slice());
    }
    const count = codes.starts[rows]!;
    return {
      ...codes,
      features: joined(features, new Uint32Array(count)),
      activations: joined(activations, new Float32Array(count)),
    };
  }

  /** @returns [rows, dIn]: what W_enc was applied to */
  #encodeBlock(residuals: Float32Array, first: number, rows: number, kept: KeptRows, codes: RowNumbers): Float64Array {
    const { description } = this.sae;
    const { dIn } = description;
    const encoded = new Float64Array(rows * dIn);
    for (let i = 0; i < rows; i++) {
      const x = residuals.subarray((first + i) * dIn, (first + i + 1) * dIn);
      const own = encoded.subarray(i * dIn, (i + 1) * dIn);
      const { factor, scale, shift, norm } = prepareInput(description, x, own);
      const isReadable = !Number.isNaN(norm);
      codes.factors[first + i] = factor;
      codes.scales[first + i] = isReadable ? scale : Number.NaN;
      codes.shifts[first + i] = shift;
      codes.norms[first + i] = norm;
    }
    this.#products.reserve(rows);
    this.#products.write(0, encoded);
    this.#products.run(rows);
    kept.clear();
    for (let i = 0; i < rows; i++) {
      const norm = codes.norms[first + i]!;
      const isReadable = !Number.isNaN(norm);
      if (isReadable) this.#products.read(i, this.#keeper.row);
      const features = isReadable ? this.#keeper.keep({ kind: "native" }, norm) : NOTHING_KEPT;
      kept.push(features);
      codes.starts[first + i + 1] = codes.starts[first + i]! + features.count;
      codes.squares[first + i] = isReadable ? features.squares : Number.NaN;
      if (codes.cuts !== null) codes.cuts[first + i] = features.k ?? 0;
    }
    return encoded;
  }
}

type RowNumbers = Omit<Codes, "features" | "activations">;

/** Some of the rows, coded. */
interface Block {
  /** The first of its rows among all. */
  readonly first: number;
  readonly kept: KeptRows;
  /** [rows, dIn]: what W_enc was applied to. */
  readonly encoded: Float64Array;
  readonly codes: RowNumbers;
}

function joined<Values extends Uint32Array | Float32Array>(parts: readonly Values[], into: Values): Values {
  let at = 0;
  for (const part of parts) {
    into.set(part, at);
    at += part.length;
  }
  return into;
}
