import { type ChosenActivation, checkChosen } from "../../models/sae/chosen-activation.js";
import type { CompiledSae } from "../../models/sae/compile-sae.js";
import { allPlaces } from "../../models/sae/reading-cut.js";
import { MOST_READ_FEATURES } from "../../models/sae/reading-graph.js";
import { Recordings } from "../ort/recordings.js";
import { Tensor } from "../ort/tensor.js";
import { checkedRows, type FeatureReader, type RowRequest } from "./feature-reader.js";
import { ReadingBlock } from "./reading-block.js";
import { type RowReading, rowsOfBlock } from "./row-reading.js";
import { type SaeReaderOptions, SaeResources } from "./sae-resources.js";
import { SaeVectors } from "./sae-vectors.js";

/**
 * Places of top-AFA that are put in order at first. A CUDA block sorts as many, and all rows at once; of more, one row is
 * sorted after the other.
 */
const FIRST_PLACES = 4096;
/** Blocks are kept while what they return takes no more: those of many rows of which many features are listed are large. */
const MOST_KEPT_BYTES = 32 << 20;

/** Rows that are read in one block: their places among what was asked, and what is common to them. */
interface Batch {
  readonly places: readonly number[];
  readonly activation: ChosenActivation;
  readonly top: number;
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

  /** Does not wait for what is recorded. */
  start(residuals: Float32Array | Tensor, asked: readonly RowRequest[]): () => RowReading[] {
    const { description } = this.sae;
    const size = residuals instanceof Tensor ? residuals.size : residuals.length;
    checkedRows(size, description.dIn, asked);
    const batches = batchesOf(asked, rowsOfBlock(description.dSae));
    for (const { activation } of batches) checkChosen(description, activation);
    const begin = (batch: Batch): ReadingBlock => {
      const input = this.#input(batch.places.length);
      const rows = batch.places.map((place) => asked[place]!.row);
      this.#fill(input, residuals, rows);
      const block = this.#block(input, batch.activation, batch.top);
      block.run(this.#placesOf(batch.activation));
      return block;
    };
    const [first, ...others] = batches;
    if (first === undefined) return () => [];
    const begun = begin(first);
    return () => {
      const readings: RowReading[] = [];
      const finish = ({ places, activation }: Batch, block: ReadingBlock): void => {
        this.#finish(block, places.length, activation);
        for (const [i, place] of places.entries()) readings[place] = block.reading(i, asked[place]!.top);
      };
      finish(first, begun);
      for (const batch of others) finish(batch, begin(batch));
      return readings;
    };
  }

  [Symbol.dispose](): void {
    for (const each of [...this.#blocks.values(), ...this.#inputs.values()]) each[Symbol.dispose]();
    this.#resources[Symbol.dispose]();
  }

  /** Waits for what a block says of its first `rows`. */
  #finish(block: ReadingBlock, rows: number, activation: ChosenActivation): void {
    const all = allPlaces(this.sae.description.dSae);
    block.receive();
    if (block.isFinished(rows) || this.#places >= all) return;
    // From now on: the next token of such an SAE is likely to need them, too.
    this.#places = all;
    block.run(this.#placesOf(activation));
    block.receive();
  }

  /** Copies rows of residuals to the beginning of `input`, neighbours at once. */
  #fill(input: Tensor, residuals: Float32Array | Tensor, rows: readonly number[]): void {
    const { dIn } = this.sae.description;
    for (let at = 0, end = 0; at < rows.length; at = end) {
      const first = rows[at]!;
      do end++;
      while (end < rows.length && rows[end] === first + end - at);
      const count = (end - at) * dIn;
      if (residuals instanceof Tensor) input.copyFrom(residuals, first * dIn, at * dIn, count);
      else input.write(residuals.subarray(first * dIn, first * dIn + count), at * dIn);
    }
  }

  #placesOf(activation: ChosenActivation): number {
    const rule = activation.kind === "native" ? this.sae.description.activation : activation;
    return rule.kind === "top-k" ? rule.k : this.#places;
  }

  #input(rows: number): Tensor {
    const padded = 2 ** Math.ceil(Math.log2(rows));
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

/** Rows of one activation go together, `most` at a time. */
function batchesOf(asked: readonly RowRequest[], most: number): Batch[] {
  const byActivation = new Map<string, number[]>();
  for (const [place, { activation }] of asked.entries()) {
    const key = activation.kind === "top-k" ? `top-${activation.k}` : activation.kind;
    const places = byActivation.get(key) ?? [];
    byActivation.set(key, places);
    places.push(place);
  }
  return [...byActivation.values()].flatMap((places) =>
    Array.from({ length: Math.ceil(places.length / most) }, (_, i): Batch => {
      const here = places.slice(i * most, (i + 1) * most);
      const { activation } = asked[here[0]!]!;
      return { places: here, activation, top: Math.max(...here.map((place) => asked[place]!.top)) };
    }),
  );
}
