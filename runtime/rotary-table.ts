import { type RopeParameters, ropeFrequencies } from "../models/rope.js";
import type { Tensor } from "./ort/tensor.js";

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
    for (let i = 0; i < positions.length; i++) {
      if (i === 0 || positions[i] !== positions[i - 1]) this.#compute(positions[i] ?? 0, 1);
      const at = (row * positions.length + i) * this.half;
      cos.write(this.#cos, at);
      sin.write(this.#sin, at);
    }
  }

  /**
   * The same for a rotation by a distance on top of keys that are not rotated: the factor of cos and sin is applied once
   * more, because such keys have not met it.
   */
  writeDistance(cos: Tensor, sin: Tensor, row: number, distance: number, count: number): void {
    this.#compute(distance, this.#factor);
    for (let i = 0; i < count; i++) {
      cos.write(this.#cos, (row * count + i) * this.half);
      sin.write(this.#sin, (row * count + i) * this.half);
    }
  }

  #compute(position: number, factor: number): void {
    for (let i = 0; i < this.half; i++) {
      const angle = position * (this.#frequencies[i] ?? 0);
      this.#cos[i] = Math.cos(angle) * this.#factor * factor;
      this.#sin[i] = Math.sin(angle) * this.#factor * factor;
    }
  }
}
