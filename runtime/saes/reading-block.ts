import type { ChosenActivation } from "../../models/sae/chosen-activation.js";
import { SCALARS } from "../../models/sae/reading-graph.js";
import { Binding } from "../ort/binding.js";
import type { Recordings } from "../ort/recordings.js";
import { Tensor } from "../ort/tensor.js";
import { epsLbo, type RowReading, unreadable } from "./row-reading.js";
import type { SaeResources } from "./sae-resources.js";

/** What rows are read with: `top` features are listed at most. */
export interface ReadingChoice {
  readonly kind: ChosenActivation["kind"];
  readonly top: number;
}

const RUNS_BEFORE_RECORDING = 2;
/** A recording saves launches, which matter less the more there is to compute. */
const MOST_RECORDED_ROWS = 8;
/** Elements of float32 that outputs begin at a multiple of, as CUDA's own allocations do. */
const ALIGNMENT = 64;

/** Some rows of residuals, bound to one reading graph: only what it says of them comes to the host. */
export class ReadingBlock implements Disposable {
  readonly #resources: SaeResources;
  readonly #top: number;
  readonly #owned: Disposable[] = [];
  readonly #places: Tensor;
  /** All of them, so that one copy brings them to `received`, which the others are parts of. */
  readonly #outputs: Tensor;
  readonly #received: Float32Array;
  readonly #scalars: Float32Array;
  readonly #listed: Float32Array;
  readonly #binding: Binding;
  readonly #recordings: Recordings | null;
  /** By the value of `places`, which a recording keeps. */
  readonly #recorded = new Map<number, number | null>();
  /** Runs before that, likewise. */
  readonly #runs = new Map<number, number>();

  /**
   * @param residuals [rows, dIn], which the caller owns and fills
   * @param recordings that all blocks of a reader share
   */
  constructor(resources: SaeResources, residuals: Tensor, { kind, top }: ReadingChoice, recordings: Recordings) {
    const [rows = 0] = residuals.shape;
    this.#resources = resources;
    this.#top = top;
    this.#recordings = resources.replays && rows <= MOST_RECORDED_ROWS ? recordings : null;
    try {
      const session = resources.session(`read-${kind}`, resources.sae.precision === "q8", resources.replays);
      const { device } = resources;
      // Numbers of places are read by the host, wherever the graph runs.
      const tops = this.#own(Tensor.zeros("int64", [1]));
      tops.write([top]);
      this.#places = this.#own(Tensor.zeros("int64", [1]));
      const scalars = { shape: [rows, SCALARS.length], size: rows * SCALARS.length };
      const listed = { shape: [rows, 2 * top], first: Math.ceil(scalars.size / ALIGNMENT) * ALIGNMENT };
      this.#outputs = this.#own(device.zeros("float32", [listed.first + rows * 2 * top]));
      this.#received = new Float32Array(this.#outputs.size);
      this.#scalars = this.#received.subarray(0, scalars.size);
      this.#listed = this.#received.subarray(listed.first);
      const inputs = new Map([
        ["residual", residuals],
        ["top", tops],
        ["places", this.#places],
      ]);
      for (const name of inputs.keys()) if (!session.inputs.includes(name)) inputs.delete(name);
      const outputs = new Map([
        ["scalars", this.#own(this.#outputs.alias(scalars.shape))],
        ["listed", this.#own(this.#outputs.alias(listed.shape, listed.first))],
      ]);
      this.#binding = this.#own(new Binding(session, inputs, outputs));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes that it takes where graphs run. */
  get bytes(): number {
    return this.#outputs.bytes;
  }

  /** A run that is recorded is not waited for. @param places as the graph's input of this name, where it has one */
  run(places: number): void {
    this.#places.write([places]);
    this.#binding.run(this.#recording(places));
  }

  /** Waits for the last run and brings over what it says. */
  receive(): void {
    this.#outputs.read(this.#received);
  }

  /** Whether the first `rows` were all cut where they should be. */
  isFinished(rows: number): boolean {
    for (let row = 0; row < rows; row++) {
      const { unfinished, norm } = this.#scalarsOf(row);
      // More places would not make a row readable that is not.
      if (unfinished !== 0 && Number.isFinite(norm)) return false;
    }
    return true;
  }

  /** @param top at most that of the block */
  reading(row: number, top: number): RowReading {
    const { sae } = this.#resources;
    const { l0, norm, squares, mse } = this.#scalarsOf(row);
    if (!Number.isFinite(norm)) return unreadable(norm);
    const first = 2 * row * this.#top;
    const count = Math.min(top, l0);
    return {
      l0,
      z: norm,
      f: Math.sqrt(squares),
      epsLbo: epsLbo(norm, squares, sae),
      mse: sae.description.kind === "transcoder" ? Number.NaN : mse,
      indices: Uint32Array.from(this.#listed.subarray(first, first + count)),
      values: this.#listed.slice(first + this.#top, first + this.#top + count),
    };
  }

  [Symbol.dispose](): void {
    for (const each of this.#owned) each[Symbol.dispose]();
  }

  /** Not before a run comes again and again: there are only so many recordings, and anybody may ask for any top-k. */
  #recording(places: number): number | null {
    if (this.#recordings === null) return null;
    const known = this.#recorded.get(places);
    if (known !== undefined) return known;
    const runs = (this.#runs.get(places) ?? 0) + 1;
    this.#runs.set(places, runs);
    if (runs <= RUNS_BEFORE_RECORDING) return null;
    const recording = this.#recordings.next();
    this.#recorded.set(places, recording);
    return recording;
  }

  #scalarsOf(row: number) {
    const [l0 = 0, norm = 0, squares = 0, mse = 0, unfinished = 0] = this.#scalars.subarray(row * SCALARS.length);
    return { l0, norm, squares, mse, unfinished };
  }

  #own<Owned extends Disposable>(each: Owned): Owned {
    this.#owned.push(each);
    return each;
  }
}
