import type { SaeDescription } from "./sae.js";

/** Euclidean length of each of `rows` rows of a matrix [rows, columns], summed in float64. */
export function rowNorms(matrix: Float32Array, rows: number): Float64Array {
  const columns = matrix.length / rows;
  return Float64Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) sum += (matrix[i] ?? 0) ** 2;
    return Math.sqrt(sum);
  });
}

/**
 * The SAE that computes with unit decoder rows what the given one computes with pre-activations multiplied by decoder
 * norms and outputs divided by them: W_enc and b_enc take the norms, W_dec gives them up. Rows of length 0 stay.
 */
export function foldDecoderNorms(
  sae: Pick<SaeDescription, "dSae" | "dOut" | "wEnc" | "bEnc" | "wDec">,
): Pick<SaeDescription, "wEnc" | "bEnc" | "wDec"> {
  const norms = rowNorms(sae.wDec, sae.dSae);
  const norm = (feature: number) => norms[feature] ?? 1;
  return {
    wEnc: sae.wEnc.map((value, i) => value * norm(i % sae.dSae)),
    bEnc: sae.bEnc?.map((value, feature) => value * norm(feature)) ?? null,
    wDec: sae.wDec.map((value, i) => value / (norm(Math.floor(i / sae.dOut)) || 1)),
  };
}

/**
 * The SAE for inputs as the model makes them, of one that was trained on inputs multiplied by `scale`; its activations
 * stay those of the scaled inputs (SAELens: fold_activation_norm_scaling_factor).
 */
export const foldInputScale = (sae: SaeDescription, scale: number): SaeDescription => ({
  ...sae,
  wEnc: sae.wEnc.map((value) => value * scale),
  wDec: sae.wDec.map((value) => value / scale),
  bDec: sae.bDec.map((value) => value / scale),
});
