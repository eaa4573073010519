import type { CompiledSae } from "../models/sae/compile-sae.js";
import { type ChosenActivation, checkChosen } from "../models/sae/encode.js";
import { allPlaces } from "../models/sae/reading-cut.js";
import { MOST_READ_FEATURES } from "../models/sae/reading-graph.js";
import { Tensor } from "./ort/tensor.js";
import { ReadingBlock } from "./reading-block.js";
import { type RowReading, rowsOfBlock } from "./row-reading.js";
import { decoderRow, encoderColumn, type Neighbour, nearest } from "./sae-directions.js";
import { type SaeReaderOptions, SaeResources } from "./sae-resources.js";

/**
 * Places of top-AFA that are put in order at first. A CUDA block sorts as many, and all rows at once; of more, one row is
 * sorted after the other.
 */
const FIRST_PLACES = 4096;

/**
 * Reads features off residuals with one SAE, as SaeReader does, but with the cut in the graph: nothing of width dSae comes
 * to the host. On a CPU, SaeReader is faster. Rows whose |z|^2 float32 cannot hold are not read.
 */
export class SaeDeviceReader implements Disposable {
  readonly #resources: SaeResources;
  /** By number of rows, a power of two: what residuals on the host are copied to. */
  readonly #inputs = new Map<number, Tensor>();
  /** Over these inputs. */
  readonly #blocks = new Map<string, ReadingBlock>();
  #places: number;

  /** @throws RangeError where the SAE has more features than its graphs can count. */
  constructor(
    readonly sae: CompiledSae,
    options: SaeReaderOptions,
  ) {
    const { dSae, file } = sae.description;
    if (dSae > MOST_READ_FEATURES)
      throw new RangeError(`${file} has ${dSae} features; a graph can select from ${MOST_READ_FEATURES} at most`);
    this.#resources = new SaeResources(sae, options);
    this.#places = Math.min(FIRST_PLACES, allPlaces(dSae));
  }

  /**
   * What the SAE says of each row of residuals [rows, dIn], which may lie where the graph runs. The mse of a transcoder is
   * NaN.
   * @throws RangeError as `checkChosen`, or if residuals are not whole rows.
   */
  read(residuals: Float32Array | Tensor, activation: ChosenActivation, top: number): RowReading[] {
    const { dIn, dSae } = this.sae.description;
    checkChosen(this.sae.description, activation);
    const size = residuals instanceof Tensor ? residuals.size : residuals.length;
    if (size % dIn !== 0) throw new RangeError(`${size} values are not rows of ${dIn}`);
    const most = rowsOfBlock(dSae);
    const readings: RowReading[] = [];
    for (let first = 0; first < size / dIn; first += most) {
      const rows = Math.min(most, size / dIn - first);
      if (residuals instanceof Tensor) {
        using part = residuals.alias([rows, dIn], first * dIn);
        using block = this.#block(part, activation, top);
        readings.push(...this.#run(block, rows, activation, top));
      } else {
        const input = this.#input(rows);
        input.write(residuals.subarray(first * dIn, (first + rows) * dIn));
        readings.push(...this.#run(this.#keptBlock(input, activation, top), rows, activation, top));
      }
    }
    return readings;
  }

  /** Column of W_enc, [dIn]. @throws RangeError where there is no such feature. */
  encoderColumn(feature: number): Float32Array {
    return encoderColumn(this.#resources, feature);
  }

  /** Row of W_dec, [dOut]. @throws RangeError where there is no such feature. */
  decoderRow(feature: number): Float32Array {
    return decoderRow(this.#resources, feature);
  }

  /** At most `top` features with the nearest decoder directions, the nearest first. @throws RangeError as `decoderRow`. */
  nearest(feature: number, top: number): Neighbour[] {
    return nearest(this.#resources, feature, top);
  }

  [Symbol.dispose](): void {
    for (const each of [...this.#blocks.values(), ...this.#inputs.values()]) each[Symbol.dispose]();
    this.#resources[Symbol.dispose]();
  }

  #run(block: ReadingBlock, rows: number, activation: ChosenActivation, top: number): RowReading[] {
    const { activation: own, dSae } = this.sae.description;
    const rule = activation.kind === "native" ? own : activation;
    block.run(rule.kind === "top-k" ? rule.k : this.#places);
    if (!block.isFinished(rows) && this.#places < allPlaces(dSae)) {
      // From now on: the next token of such an SAE is likely to need them, too.
      this.#places = allPlaces(dSae);
      block.run(this.#places);
    }
    return Array.from({ length: rows }, (_, row) => block.reading(row, top));
  }

  /** With room for `rows`: these are padded to a power of two, so that a handful of blocks do for all. */
  #input(rows: number): Tensor {
    const padded = 2 ** Math.ceil(Math.log2(rows));
    const known = this.#inputs.get(padded);
    if (known !== undefined) return known;
    const input = this.#resources.device.zeros("float32", [padded, this.sae.description.dIn]);
    this.#inputs.set(padded, input);
    return input;
  }

  #keptBlock(input: Tensor, activation: ChosenActivation, top: number): ReadingBlock {
    const key = `${activation.kind} ${input.shape[0]} ${this.#listed(top)}`;
    const known = this.#blocks.get(key);
    if (known !== undefined) return known;
    const block = this.#block(input, activation, top);
    this.#blocks.set(key, block);
    return block;
  }

  #block(residuals: Tensor, { kind }: ChosenActivation, top: number): ReadingBlock {
    return new ReadingBlock(this.#resources, residuals, { kind, top: this.#listed(top) });
  }

  /** A power of two, or all. */
  #listed(top: number): number {
    return Math.min(this.sae.description.dSae, 2 ** Math.ceil(Math.log2(Math.max(1, top))));
  }
}
