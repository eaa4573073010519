import type { CodedRows } from "../../runtime/saes/sae-coder.js";

/**
 * What an SAE makes of each of some tokens, in float64: [tokens] each. x is the residual, x' its reconstruction, xn and y the
 * same normalised, f the features' activations, z = xn - b_dec.
 */
export interface TokenFigures {
  readonly tokens: number;
  /** |x - x'|^2 */
  readonly errors: Float64Array;
  /** |xn - y|^2 */
  readonly normalisedErrors: Float64Array;
  /** |x|, |x'| and x . x' */
  readonly lengths: Float64Array;
  readonly lengthsOut: Float64Array;
  readonly products: Float64Array;
  /** x . x' / (|x| |x'|), 0 where one of them is 0. */
  readonly cosines: Float64Array;
  /** |x'| / |x|, where |x| below 1e-4 counts as 1. */
  readonly ratios: Float64Array;
  /** Features that are not 0, and the sum of their activations in the SAE's own scale, without decoder norms. */
  readonly l0: Float64Array;
  readonly l1: Float64Array;
  /** The cut of top-AFA; null for SAEs of another kind. */
  readonly cuts: Uint32Array | null;
  /** |z| and |f| = sqrt(sum of (f_i |W_dec,i|)^2), in the SAE's own scale. */
  readonly z: Float64Array;
  readonly f: Float64Array;
  /** | |z|^2 - |f|^2 | / ((h - 1) |f|^2), h the number of features; NaN where |f| is 0. arXiv 2503.24277. */
  readonly epsLbo: Float64Array;
  /** What the ZF plot shows, in the scale of the residuals: |xn| and sqrt(|f|^2 + |b_dec|^2), both times its scale. */
  readonly zfInputs: Float64Array;
  readonly zfOutputs: Float64Array;
}

const SHORTEST = 1e-4;

/** @param x [tokens, d]; @param codes of these */
export function tokenFigures(
  x: Float32Array,
  codes: CodedRows,
  { dSae, bDec }: { readonly dSae: number; readonly bDec: Float32Array },
): TokenFigures {
  const { rows: tokens, starts, activations, reconstruction, shifts, factors, scales, squares } = codes;
  const width = bDec.length;
  const bias = bDec.reduce((sum, value) => sum + value * value, 0);
  const column = () => new Float64Array(tokens);
  const figures = {
    ...{ tokens, normalisedErrors: codes.normalisedErrors, cuts: codes.cuts, z: codes.norms },
    ...{ errors: column(), lengths: column(), lengthsOut: column(), products: column(), cosines: column() },
    ...{ ratios: column(), l0: column(), l1: column(), f: column(), epsLbo: column() },
    ...{ zfInputs: column(), zfOutputs: column() },
  };
  for (let t = 0; t < tokens; t++) {
    let [error, own, out, product, normalised] = [0, 0, 0, 0, 0];
    for (let i = t * width; i < (t + 1) * width; i++) {
      const [from, to] = [x[i]!, reconstruction[i]!];
      error += (from - to) ** 2;
      own += from * from;
      out += to * to;
      product += from * to;
      normalised += ((from - shifts[t]!) * factors[t]!) ** 2;
    }
    let l1 = 0;
    for (let i = starts[t]!; i < starts[t + 1]!; i++) l1 += activations[i]!;
    const [length, lengthOut, f] = [Math.sqrt(own), Math.sqrt(out), squares[t]!];
    figures.errors[t] = error;
    figures.lengths[t] = length;
    figures.lengthsOut[t] = lengthOut;
    figures.products[t] = product;
    figures.cosines[t] = own === 0 || out === 0 ? 0 : product / (length * lengthOut);
    figures.ratios[t] = lengthOut / (length < SHORTEST ? 1 : length);
    figures.l0[t] = starts[t + 1]! - starts[t]!;
    figures.l1[t] = l1;
    figures.f[t] = Math.sqrt(f);
    figures.epsLbo[t] = f > 0 ? Math.abs(codes.norms[t]! ** 2 - f) / ((dSae - 1) * f) : Number.NaN;
    figures.zfInputs[t] = scales[t]! * Math.sqrt(normalised);
    figures.zfOutputs[t] = scales[t]! * Math.sqrt(f + bias);
  }
  return figures;
}
