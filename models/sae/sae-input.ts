import type { SaeDescription } from "./sae.js";

/** One input on its way through an SAE, in float64. */
export interface SaeInput {
  /** [dIn]: what W_enc is applied to. */
  readonly encoded: Float64Array;
  /** |normalised x - bDec|, also where encoding does not subtract bDec; |normalised x| of a transcoder. */
  readonly norm: number;
  /** What x, less its mean where that is taken off, is multiplied by to normalise it. */
  readonly factor: number;
  /** The output on x's own scale is y * scale + shift; of an autoencoder, shift is the mean that was taken off. */
  readonly scale: number;
  readonly shift: number;
}

type Preparing = Pick<SaeDescription, "kind" | "dIn" | "bDec" | "subtractsBDec" | "normalisation">;

/**
 * @param x one row of dIn values
 * @param encoded [dIn] that the input's is written to
 */
export function prepareInput(
  sae: Preparing,
  x: Float32Array,
  encoded: Float64Array = new Float64Array(sae.dIn),
): SaeInput {
  const { dIn, bDec, subtractsBDec } = sae;
  const isAutoencoder = sae.kind === "autoencoder";
  const { factor, mean, scale, shift } = normalisation(sae, x);
  let squares = 0;
  for (let i = 0; i < dIn; i++) {
    const normalised = (x[i]! - mean) * factor;
    const centred = isAutoencoder ? normalised - bDec[i]! : normalised;
    squares += centred * centred;
    encoded[i] = subtractsBDec ? centred : normalised;
  }
  const norm = Math.sqrt(squares);
  return isAutoencoder ? { encoded, norm, factor, scale, shift } : { encoded, norm, factor, scale: 1, shift: 0 };
}

function normalisation({ normalisation, dIn }: Preparing, x: Float32Array) {
  if (normalisation === "centre") {
    const mean = meanOf(x);
    return { factor: 1, mean, scale: 1, shift: mean };
  }
  if (normalisation === "layer_norm") {
    let squares = 0;
    const mean = meanOf(x);
    for (let i = 0; i < dIn; i++) {
      const centred = x[i]! - mean;
      squares += centred * centred;
    }
    const std = Math.sqrt(squares / (dIn - 1));
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

function meanOf(x: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]!;
  return sum / x.length;
}

export function length(vector: Float32Array | Float64Array): number {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) sum += vector[i]! * vector[i]!;
  return Math.sqrt(sum);
}
