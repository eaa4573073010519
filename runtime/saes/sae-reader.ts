import { largest } from "../../models/largest.js";
import { type ChosenActivation, checkChosen } from "../../models/sae/chosen-activation.js";
import type { CompiledSae } from "../../models/sae/compile-sae.js";
import { FeatureKeeper, type KeptFeatures } from "../../models/sae/kept-features.js";
import { prepareInput, rowsOf, type SaeInput } from "../../models/sae/sae-input.js";
import type { SaePrecision } from "../../models/sae/sae-matrices.js";
import type { SaeOutline } from "../../models/sae/stored-sae.js";
import { Tensor } from "../ort/tensor.js";
import type { FeatureReader } from "./feature-reader.js";
import { GatheredSum } from "./gathered-sum.js";
import { epsLbo, paddedRows, type RowReading, rowsOfBlock, unreadable } from "./row-reading.js";
import { SaeBlock } from "./sae-block.js";
import { type SaeReaderOptions, SaeResources } from "./sae-resources.js";
import { SaeVectors } from "./sae-vectors.js";

/**
 * Reads features off residuals with one SAE: products with its matrices in native code, and the cut here. Graphs are
 * loaded when they are first needed; memory does not grow with the number of rows.
 */
export class SaeReader implements FeatureReader {
  readonly vectors: SaeVectors;
  readonly #resources: SaeResources;
  readonly #keeper: FeatureKeeper;
  /** By number of rows, a power of two. */
  readonly #blocks = new Map<number, SaeBlock>();
  #gathered: GatheredSum | undefined;

  constructor(
    readonly sae: CompiledSae,
    options: SaeReaderOptions,
  ) {
    this.#resources = new SaeResources(sae, options);
    this.vectors = new SaeVectors(this.#resources);
    this.#keeper = new FeatureKeeper({ ...sae.description, decoderNorms: sae.decoderNorms });
  }

  /** Reads when it is asked for the readings: nothing runs beside the host. */
  start(residuals: Float32Array | Tensor, activation: ChosenActivation, top: number): () => RowReading[] {
    const values = residuals instanceof Tensor ? residuals.read(new Float32Array(residuals.size)) : residuals;
    return () => this.read(values, activation, top);
  }

  /** All of `start` at once, in f32 but for the cut. */
  read(residuals: Float32Array, activation: ChosenActivation, top: number): RowReading[] {
    const { description } = this.sae;
    checkChosen(description, activation);
    const rows = rowsOf(residuals, description.dIn);
    const most = rowsOfBlock(description.dSae);
    const readings: RowReading[] = [];
    for (let first = 0; first < rows.length; first += most)
      readings.push(...this.#readBlock(rows.slice(first, first + most), activation, top));
    return readings;
  }

  [Symbol.dispose](): void {
    for (const block of this.#blocks.values()) block[Symbol.dispose]();
    this.#gathered?.[Symbol.dispose]();
    this.#resources[Symbol.dispose]();
  }

  #readBlock(rows: readonly Float32Array[], activation: ChosenActivation, top: number): RowReading[] {
    const { description } = this.sae;
    const inputs = rows.map((row) => prepareInput(description, row));
    const block = this.#block(rows.length);
    block.encode(inputs.map(({ encoded }) => encoded));
    let dense: boolean | undefined;
    const readings = inputs.map((input, row): Draft => {
      if (Number.isNaN(input.norm)) return unreadable(Number.NaN);
      block.products(row, this.#keeper.row);
      const kept = this.#keeper.keep(activation, input.norm);
      const result = reading(kept, input, this.sae, top);
      dense ??= isDenseCheaper(this.sae.precision, kept.count, rows.length, description.dSae);
      if (dense) block.setActivations(row, kept);
      else result.mse = meanSquare(description, rows[row], input, this.#sum(kept));
      return result;
    });
    if (!dense) return readings;
    block.decode();
    for (const [row, input] of inputs.entries()) {
      const result = readings[row];
      if (result !== undefined) result.mse = meanSquare(description, rows[row], input, block.sums(row));
    }
    return readings;
  }

  #block(rows: number): SaeBlock {
    const padded = paddedRows(rows);
    const known = this.#blocks.get(padded);
    if (known !== undefined) return known;
    const block = new SaeBlock(this.#resources, padded);
    this.#blocks.set(padded, block);
    return block;
  }

  #sum(kept: KeptFeatures): Float64Array {
    this.#gathered ??= new GatheredSum(this.#resources);
    return this.#gathered.of(kept);
  }
}

/** A reading whose mse is still to come. */
type Draft = { -readonly [Field in keyof RowReading]: RowReading[Field] };

function reading(kept: KeptFeatures, { norm }: SaeInput, sae: CompiledSae, top: number): Draft {
  const { count, squares, sizes, features, activations } = kept;
  const places = new Int32Array(Math.min(top, count));
  largest(sizes.subarray(0, count), places.length, places);
  places.sort((a, b) => sizes[b]! - sizes[a]! || features[a]! - features[b]!);
  const [indices, values] = [new Uint32Array(places.length), new Float32Array(places.length)];
  for (let i = 0; i < places.length; i++) {
    indices[i] = features[places[i]!]!;
    values[i] = activations[places[i]!]!;
  }
  const eps = epsLbo(norm, squares, sae);
  return { l0: count, z: norm, f: Math.sqrt(squares), epsLbo: eps, mse: Number.NaN, indices, values };
}

/** Of x - reconstruction; NaN of a transcoder. @param sums [dOut] of activation * decoder row */
function meanSquare(
  { kind, bDec, dIn }: SaeOutline,
  x: Float32Array | undefined,
  { scale, shift }: SaeInput,
  sums: Float32Array | Float64Array,
): number {
  if (kind === "transcoder") return Number.NaN;
  let squares = 0;
  for (let i = 0; i < dIn; i++) squares += (x![i]! - ((sums[i]! + bDec[i]!) * scale + shift)) ** 2;
  return squares / dIn;
}

/**
 * Whether all of W_dec is multiplied with in less time than `kept` of its dSae rows are gathered for each of `rows`: in f32
 * the product takes half the time of gathering all, and for several rows W_dec is reordered first, which takes four
 * products; in 8 bits it takes a tenth (576 x 9,216 on 2 cores).
 */
function isDenseCheaper(precision: SaePrecision, kept: number, rows: number, dSae: number): boolean {
  if (precision === "q8") return kept > 0.1 * dSae;
  return 2 * kept * rows > dSae * (rows === 1 ? 1 : 4 + 0.15 * rows);
}
