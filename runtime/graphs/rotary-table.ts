import { type RopeParameters, ropeFrequencies } from "../../models/rope.js";
import type { Tensor } from "../ort/tensor.js";

/**
 * cos and sin of rotary positions, computed in float64: float32 angles are wrong from about a million tokens on.
 * Tables are [.., rotaryDim / 2].
 */
export class RotaryTable {
  readonly half: number;
  readonly #frequencies: Float64Array;
  readonly #factor: number;
  readonly #cos: Float32Array;
  readonly #sin: Float32Array;

  constructor(rope: RopeParameters, rotaryDim: number, window: number) {
    const { inverseFrequencies, attentionFactor } = ropeFrequencies(rope, rotaryDim, { window });
    this.half = rotaryDim / 2;
    this.#frequencies = inverseFrequencies;
    this.#factor = attentionFactor;
    this.#cos = new Float32Array(this.half);
    this.#sin = new Float32Array(this.half);
  }

  /** Writes the tables of `positions` into row `row` of two tensors [rows, positions.length, rotaryDim / 2]. */
  write(cos: Tensor, sin: Tensor, row: number, positions: ArrayLike<number>): void {
    const size = positions.length * this.half;
    const tables = { cos: new Float32Array(size), sin: new Float32Array(size) };
    for (let i = 0; i < positions.length; i++) {
      if (i === 0 || positions[i] !== positions[i - 1]) this.#compute(positions[i] ?? 0, 1);
      tables.cos.set(this.#cos, i * this.half);
      tables.sin.set(this.#sin, i * this.half);
    }
    cos.write(tables.cos, row * size);
    sin.write(tables.sin, row * size);
  }

  /**
   * The same for a rotation by a distance on top of keys that are not rotated: the factor of cos and sin is applied once
   * more, because such keys have not met it.
   */
  writeDistance(cos: Tensor, sin: Tensor, row: number, distance: number, count: number): void {
    const repeated = (table: Float32Array): Float32Array => {
      const values = new Float32Array(count * this.half);
      for (let i = 0; i < count; i++) values.set(table, i * this.half);
      return values;
    };
    this.#compute(distance, this.#factor);
    cos.write(repeated(this.#cos), row * count * this.half);
    sin.write(repeated(this.#sin), row * count * this.half);
  }

  #compute(position: number, factor: number): void {
    for (let i = 0; i < this.half; i++) {
      const angle = position * (this.#frequencies[i] ?? 0);
      this.#cos[i] = Math.cos(angle) * this.#factor * factor;
      this.#sin[i] = Math.sin(angle) * this.#factor * factor;
    }
  }
}
