import type { ChosenActivation } from "../models/sae/encode.js";
import { SCALARS } from "../models/sae/reading-graph.js";
import { Binding } from "./ort/binding.js";
import { Tensor } from "./ort/tensor.js";
import { epsLbo, type RowReading, unreadable } from "./row-reading.js";
import type { SaeResources } from "./sae-resources.js";

/** What rows are read with: `top` features are listed at most. */
export interface ReadingChoice {
  readonly kind: ChosenActivation["kind"];
  readonly top: number;
}

/** Some rows of residuals, bound to one reading graph: only what it says of them comes to the host. */
export class ReadingBlock implements Disposable {
  readonly #resources: SaeResources;
  readonly #top: number;
  readonly #owned: Disposable[] = [];
  readonly #places: Tensor;
  readonly #scalars: Tensor;
  readonly #listed: Tensor;
  readonly #binding: Binding;
  readonly #read: { readonly scalars: Float32Array; readonly listed: Float32Array };

  /** @param residuals [rows, dIn], which the caller owns and fills */
  constructor(resources: SaeResources, residuals: Tensor, { kind, top }: ReadingChoice) {
    const [rows = 0] = residuals.shape;
    this.#resources = resources;
    this.#top = top;
    try {
      const session = resources.session(`read-${kind}`, resources.sae.precision === "q8");
      const { device } = resources;
      // Numbers of places are read by the host, wherever the graph runs.
      const tops = this.#own(Tensor.zeros("int64", [1]));
      tops.write([top]);
      this.#places = this.#own(Tensor.zeros("int64", [1]));
      this.#scalars = this.#own(device.zeros("float32", [rows, SCALARS.length]));
      this.#listed = this.#own(device.zeros("float32", [rows, 2 * top]));
      this.#read = { scalars: new Float32Array(this.#scalars.size), listed: new Float32Array(this.#listed.size) };
      const inputs = new Map([
        ["residual", residuals],
        ["top", tops],
        ["places", this.#places],
      ]);
      for (const name of inputs.keys()) if (!session.inputs.includes(name)) inputs.delete(name);
      const outputs = new Map([
        ["scalars", this.#scalars],
        ["listed", this.#listed],
      ]);
      this.#binding = this.#own(new Binding(session, inputs, outputs));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** @param places as the graph's input of this name, where it has one */
  run(places: number): void {
    this.#places.write([places]);
    this.#binding.run();
    this.#scalars.read(this.#read.scalars);
    this.#listed.read(this.#read.listed);
  }

  /** Whether the first `rows` were all cut where they should be. */
  isFinished(rows: number): boolean {
    for (let row = 0; row < rows; row++) if (this.#scalarsOf(row).unfinished !== 0) return false;
    return true;
  }

  /** @param top at most that of the block */
  reading(row: number, top: number): RowReading {
    const { kind, dSae } = this.#resources.sae.description;
    const { l0, norm, squares, mse } = this.#scalarsOf(row);
    if (!Number.isFinite(norm)) return unreadable(norm);
    const first = 2 * row * this.#top;
    const count = Math.min(top, l0);
    return {
      l0,
      z: norm,
      f: Math.sqrt(squares),
      epsLbo: epsLbo(norm, squares, dSae),
      mse: kind === "transcoder" ? Number.NaN : mse,
      indices: Uint32Array.from(this.#read.listed.subarray(first, first + count)),
      values: this.#read.listed.slice(first + this.#top, first + this.#top + count),
    };
  }

  [Symbol.dispose](): void {
    for (const each of this.#owned) each[Symbol.dispose]();
  }

  #scalarsOf(row: number) {
    const [l0 = 0, norm = 0, squares = 0, mse = 0, unfinished = 0] = this.#read.scalars.subarray(row * SCALARS.length);
    return { l0, norm, squares, mse, unfinished };
  }

  #own<Owned extends Disposable>(each: Owned): Owned {
    this.#owned.push(each);
    return each;
  }
}
