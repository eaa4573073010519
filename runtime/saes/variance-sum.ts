/** How far vectors lie from their mean, in float64, added up as they come. */
export class VarianceSum {
  count = 0;
  /** Sum of |x|^2. */
  squares = 0;
  /** [width] */
  readonly #sums: Float64Array;

  constructor(readonly width: number) {
    this.#sums = new Float64Array(width);
  }

  /** Adds the rows of x [rows, width]: (x - shift) * factor of each, where these are given. */
  add(x: Float32Array, normalised?: { readonly shifts: Float64Array; readonly factors: Float64Array }): void {
    const { width } = this;
    const sums = this.#sums;
    const rows = x.length / width;
    let squares = 0;
    for (let row = 0; row < rows; row++) {
      const shift = normalised?.shifts[row] ?? 0;
      const factor = normalised?.factors[row] ?? 1;
      for (let i = 0; i < width; i++) {
        const value = (x[row * width + i]! - shift) * factor;
        sums[i]! += value;
        squares += value * value;
      }
    }
    this.squares += squares;
    this.count += rows;
  }

  /** [width] */
  get mean(): Float64Array {
    return this.#sums.map((sum) => sum / this.count);
  }

  /** Sum of |x - mean|^2. */
  get total(): number {
    return this.squares - this.count * this.mean.reduce((sum, value) => sum + value * value, 0);
  }
}
