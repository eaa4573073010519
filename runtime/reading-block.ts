import type { ChosenActivation } from "../models/sae/encode.js";
import { READING } from "../models/sae/reading-graph.js";
import { Binding } from "./ort/binding.js";
import { Tensor } from "./ort/tensor.js";
import { epsLbo, type RowReading, unreadable } from "./row-reading.js";
import type { SaeResources } from "./sae-resources.js";

/** What rows are read with: `top` features are listed at most. */
export interface ReadingChoice {
  readonly kind: ChosenActivation["kind"];
  readonly top: number;
}

/** Some rows of residuals, bound to one reading graph: only readings leave it. */
export class ReadingBlock implements Disposable {
  readonly #resources: SaeResources;
  readonly #top: number;
  readonly #owned: Disposable[] = [];
  readonly #places: Tensor;
  readonly #output: Tensor;
  readonly #binding: Binding;
  readonly #readings: Float32Array;

  /** @param residuals [rows, dIn], which the caller owns and fills */
  constructor(resources: SaeResources, residuals: Tensor, { kind, top }: ReadingChoice) {
    const [rows = 0] = residuals.shape;
    this.#resources = resources;
    this.#top = top;
    try {
      const { precision } = resources.sae;
      const session = resources.session(`read-${kind}`, precision === "q8");
      // Numbers of places are read by the host, wherever the graph runs.
      const listed = this.#own(Tensor.zeros("int64", [1]));
      listed.write([top]);
      this.#places = this.#own(Tensor.zeros("int64", [1]));
      this.#output = this.#own(resources.device.zeros("float32", [rows, READING.features + 2 * top]));
      this.#readings = new Float32Array(this.#output.size);
      const inputs = new Map([
        ["residual", residuals],
        ["top", listed],
        ["places", this.#places],
      ]);
      for (const name of inputs.keys()) if (!session.inputs.includes(name)) inputs.delete(name);
      this.#binding = this.#own(new Binding(session, inputs, new Map([["readings", this.#output]])));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** @param places as the graph's input of this name, where it has one */
  run(places: number): void {
    this.#places.write([places]);
    this.#binding.run();
    this.#output.read(this.#readings);
  }

  /** Whether the first `rows` were all cut where they should be. */
  isFinished(rows: number): boolean {
    return Array.from({ length: rows }, (_, row) => this.#row(row)[READING.unfinished]).every((value) => value === 0);
  }

  /** @param top at most that of the block */
  reading(row: number, top: number): RowReading {
    const { description } = this.#resources.sae;
    const values = this.#row(row);
    const at = (column: number) => values[column] ?? Number.NaN;
    const [l0, z, squares] = [at(READING.l0), at(READING.norm), at(READING.squares)];
    if (!Number.isFinite(z)) return unreadable(z);
    const [first, listed] = [READING.features, Math.min(top, l0)];
    return {
      l0,
      z,
      f: Math.sqrt(squares),
      epsLbo: epsLbo(z, squares, description.dSae),
      mse: description.kind === "transcoder" ? Number.NaN : at(READING.mse),
      indices: Uint32Array.from(values.subarray(first, first + listed)),
      values: values.slice(first + this.#top, first + this.#top + listed),
    };
  }

  [Symbol.dispose](): void {
    for (const each of this.#owned) each[Symbol.dispose]();
  }

  #row(row: number): Float32Array {
    const width = READING.features + 2 * this.#top;
    return this.#readings.subarray(row * width, (row + 1) * width);
  }

  #own<Owned extends Disposable>(each: Owned): Owned {
    this.#owned.push(each);
    return each;
  }
}
