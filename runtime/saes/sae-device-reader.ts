import { type ChosenActivation, checkChosen } from "../../models/sae/chosen-activation.js";
import type { CompiledSae } from "../../models/sae/compile-sae.js";
import { allPlaces } from "../../models/sae/reading-cut.js";
import { MOST_READ_FEATURES } from "../../models/sae/reading-graph.js";
import { Recordings } from "../ort/recordings.js";
import { Tensor } from "../ort/tensor.js";
import type { FeatureReader } from "./feature-reader.js";
import { ReadingBlock } from "./reading-block.js";
import { paddedRows, type RowReading, rowsOfBlock } from "./row-reading.js";
import { type SaeReaderOptions, SaeResources } from "./sae-resources.js";
import { SaeVectors } from "./sae-vectors.js";

/**
 * Places of top-AFA that are put in order at first. A CUDA block sorts as many, and all rows at once; of more, one row is
 * sorted after the other.
 */
const FIRST_PLACES = 4096;
/** Blocks are kept while what they return takes no more: those of many rows of which many features are listed are large. */
const MOST_KEPT_BYTES = 32 << 20;

/** What was begun of one block of rows. */
interface Begun {
  readonly block: ReadingBlock;
  readonly rows: number;
}

/**
 * Reads features off residuals with one SAE, as SaeReader does, but with the cut in the graph: nothing of width dSae comes
 * to the host. On a CPU, SaeReader is faster. Rows whose |z|^2 float32 cannot hold are not read.
 */
export class SaeDeviceReader implements FeatureReader {
  readonly vectors: SaeVectors;
  readonly #resources: SaeResources;
  /** By number of rows, a power of two: what residuals are copied to. Rows do not mix, so what else is in it does not matter. */
  readonly #inputs = new Map<number, Tensor>();
  /** Over these inputs, the oldest first. */
  readonly #blocks = new Map<string, ReadingBlock>();
  /** Of all its sessions together. */
  readonly #recordings = new Recordings();
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
    this.vectors = new SaeVectors(this.#resources);
    this.#places = Math.min(FIRST_PLACES, allPlaces(dSae));
  }

  /** All of `start` at once. */
  read(residuals: Float32Array | Tensor, activation: ChosenActivation, top: number): RowReading[] {
    return this.start(residuals, activation, top)();
  }

  /** Does not wait for what is recorded. */
  start(residuals: Float32Array | Tensor, activation: ChosenActivation, top: number): () => RowReading[] {
    const { dIn, dSae } = this.sae.description;
    checkChosen(this.sae.description, activation);
    const size = residuals instanceof Tensor ? residuals.size : residuals.length;
    if (size % dIn !== 0) throw new RangeError(`${size} values are not rows of ${dIn}`);
    const count = size / dIn;
    const most = rowsOfBlock(dSae);
    const begin = (first: number): Begun | null => {
      if (first >= count) return null;
      const rows = Math.min(most, count - first);
      const input = this.#input(rows);
      if (residuals instanceof Tensor) input.copyFrom(residuals, first * dIn, 0, rows * dIn);
      else input.write(residuals.subarray(first * dIn, (first + rows) * dIn));
      const block = this.#block(input, activation, top);
      block.run(this.#placesOf(activation));
      return { block, rows };
    };
    const begun = begin(0);
    return () => {
      const readings: RowReading[] = [];
      for (let [each, first] = [begun, 0]; each !== null; each = begin(first)) {
        readings.push(...this.#readings(each, activation, top));
        first += most;
      }
      return readings;
    };
  }

  [Symbol.dispose](): void {
    for (const each of [...this.#blocks.values(), ...this.#inputs.values()]) each[Symbol.dispose]();
    this.#resources[Symbol.dispose]();
  }

  #readings({ block, rows }: Begun, activation: ChosenActivation, top: number): RowReading[] {
    const all = allPlaces(this.sae.description.dSae);
    block.receive();
    if (!block.isFinished(rows) && this.#places < all) {
      // From now on: the next token of such an SAE is likely to need them, too.
      this.#places = all;
      block.run(this.#placesOf(activation));
      block.receive();
    }
    return Array.from({ length: rows }, (_, row) => block.reading(row, top));
  }

  #placesOf(activation: ChosenActivation): number {
    const rule = activation.kind === "native" ? this.sae.description.activation : activation;
    return rule.kind === "top-k" ? rule.k : this.#places;
  }

  #input(rows: number): Tensor {
    const padded = paddedRows(rows);
    const known = this.#inputs.get(padded);
    if (known !== undefined) return known;
    const input = this.#resources.device.zeros("float32", [padded, this.sae.description.dIn]);
    this.#inputs.set(padded, input);
    return input;
  }

  #block(input: Tensor, { kind }: ChosenActivation, top: number): ReadingBlock {
    const choice = { kind, top: this.#listed(top) };
    const key = `${kind} ${input.shape[0]} ${choice.top}`;
    const known = this.#blocks.get(key);
    if (known !== undefined) {
      this.#blocks.delete(key); // what was used last is let go of last
      this.#blocks.set(key, known);
      return known;
    }
    const block = new ReadingBlock(this.#resources, input, choice, this.#recordings);
    let kept = block.bytes;
    for (const each of this.#blocks.values()) kept += each.bytes;
    for (const [oldest, each] of this.#blocks) {
      if (kept <= MOST_KEPT_BYTES) break;
      this.#blocks.delete(oldest);
      kept -= each.bytes;
      each[Symbol.dispose]();
    }
    this.#blocks.set(key, block);
    return block;
  }

  /** A power of two, or all. */
  #listed(top: number): number {
    return Math.min(this.sae.description.dSae, 2 ** Math.ceil(Math.log2(Math.max(1, top))));
  }
}
