import type { SaeDescription } from "./sae.js";

/** One input on its way through an SAE, in float64. */
export interface SaeInput {
  /** [dIn]: what W_enc is applied to. */
  readonly encoded: Float64Array;
  /** |normalised x - bDec|, also where encoding does not subtract bDec; |normalised x| of a transcoder. */
  readonly norm: number;
  /** The output on x's own scale is y * scale + shift. */
  readonly scale: number;
  readonly shift: number;
}

/** @param x one row of dIn values */
export function prepareInput(sae: SaeDescription, x: Float32Array): SaeInput {
  const { factor, mean, scale, shift } = normalisation(sae, x);
  const encoded = Float64Array.from(x, (value) => (value - mean) * factor);
  if (sae.kind === "transcoder") return { encoded, norm: length(encoded), scale: 1, shift: 0 };
  const centred = encoded.map((value, i) => value - (sae.bDec[i] ?? 0));
  return { encoded: sae.subtractsBDec ? centred : encoded, norm: length(centred), scale, shift };
}

function normalisation({ normalisation, dIn }: SaeDescription, x: Float32Array) {
  if (normalisation === "layer_norm") {
    const mean = x.reduce((sum, value) => sum + value, 0) / dIn;
    const std = Math.sqrt(x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (dIn - 1));
    return { factor: 1 / (std + 1e-5), mean, scale: std, shift: mean };
  }
  if (normalisation === "constant_norm_rescale") {
    // A zero vector stays one: the library makes NaN of it.
    const norm = length(x) || Number.POSITIVE_INFINITY;
    const factor = Math.sqrt(dIn) / norm;
    return { factor, mean: 0, scale: factor === 0 ? 0 : 1 / factor, shift: 0 };
  }
  return { factor: 1, mean: 0, scale: 1, shift: 0 };
}

export function length(vector: Float32Array | Float64Array): number {
  let sum = 0;
  for (const value of vector) sum += value * value;
  return Math.sqrt(sum);
}
