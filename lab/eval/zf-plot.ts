import { Reservoir } from "./reservoir.js";
import type { TokenFigures } from "./token-figures.js";

/** Bands of the ZF plot. */
export const ZF_BANDS = [0.25, 0.5, 1] as const;

const MOST_POINTS = 1000;

/**
 * The ZF plot of an SAE (arXiv 2503.24277) in the scale of the residuals. Abscissa: scale |xn|; ordinate: scale
 * sqrt(|f|^2 + |b_dec|^2). The bias is one more feature, so b_dec is not subtracted from the abscissa.
 */
export interface ZfPlot {
  /** [points, 2]: of all tokens, or of a sample of 1,000. */
  readonly points: Float64Array;
  /** Shares of all tokens with |abscissa^2 / ordinate^2 - 1| <= c, between the slopes 1 / sqrt(1 +- c), by `ZF_BANDS`. */
  readonly inside: readonly number[];
}

/** Collects the points of a ZF plot. */
export class ZfPoints {
  readonly #points = new Reservoir(MOST_POINTS, 2);
  readonly #inside = ZF_BANDS.map(() => 0);

  add({ tokens, zfInputs, zfOutputs }: Pick<TokenFigures, "tokens" | "zfInputs" | "zfOutputs">): void {
    for (let t = 0; t < tokens; t++) {
      const [x, y] = [zfInputs[t]!, zfOutputs[t]!];
      this.#points.add(x, y);
      const distance = Math.abs((x / y) ** 2 - 1);
      for (const [i, band] of ZF_BANDS.entries()) if (distance <= band) this.#inside[i]! += 1;
    }
  }

  get result(): ZfPlot {
    return { points: this.#points.values, inside: this.#inside.map((count) => count / this.#points.seen) };
  }
}
