import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { type StepConfig, trainedWeights } from "./step-config.js";

/** SAELens 6.54's, for jumprelu: lengths of decoder rows, and thresholds. */
const JUMPRELU_DECODER = 0.1;
const JUMPRELU_THRESHOLD = 0.01;
/**
 * Squared lengths of encoder columns are this times d / h. From longer ones (2 in the authors' code) top-AFA falls to one
 * feature for each row, and stays there.
 */
const ENCODER_SQUARE = 1.2;

/**
 * Weights before the first step: rows of W_dec are random directions, columns of W_enc the same ones, and b_dec is the mean of
 * the (normalised) rows of a first batch.
 * @param rows [batch, dIn] as the hook holds them
 */
export function initialWeights(config: StepConfig, rows: Float32Array, seed: number): Map<string, Float32Array> {
  const { dIn, dSae, activation } = config;
  const normal = normalNumbers(seed);
  const isJumprelu = activation.kind === "jumprelu";
  const decoderLength = isJumprelu ? JUMPRELU_DECODER : 1;
  const encoderLength = isJumprelu ? JUMPRELU_DECODER : Math.sqrt((ENCODER_SQUARE * dIn) / dSae);
  const [wEnc, wDec] = [new Float32Array(dIn * dSae), new Float32Array(dSae * dIn)];
  for (let feature = 0; feature < dSae; feature++) {
    const direction = Float64Array.from({ length: dIn }, normal);
    const length = Math.hypot(...direction);
    for (let i = 0; i < dIn; i++) {
      const value = direction[i]! / length;
      wDec[feature * dIn + i] = decoderLength * value;
      wEnc[i * dSae + feature] = encoderLength * value;
    }
  }
  const weights = new Map([
    ["W_enc", wEnc],
    ["W_dec", wDec],
    ["b_dec", isJumprelu ? new Float32Array(dIn) : meanInput(config, rows)],
  ]);
  for (const [name, [size = 0]] of trainedWeights(config))
    if (!weights.has(name))
      weights.set(name, new Float32Array(size).fill(name === "threshold" ? JUMPRELU_THRESHOLD : 0));
  return weights;
}

/** [dIn] */
function meanInput({ dIn, normalisation }: StepConfig, rows: Float32Array): Float32Array {
  const sums = new Float64Array(dIn);
  const count = rows.length / dIn;
  for (let first = 0; first < rows.length; first += dIn) {
    const row = rows.subarray(first, first + dIn);
    const mean = normalisation === "none" ? 0 : row.reduce((sum, value) => sum + value, 0) / dIn;
    const squares = row.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const scale = normalisation === "none" ? 1 : Math.sqrt(squares / (dIn - 1)) + 1e-5;
    for (let i = 0; i < dIn; i++) sums[i]! += (row[i]! - mean) / scale;
  }
  return Float32Array.from(sums, (sum) => sum / count);
}

/** Normally distributed numbers: Box and Muller 1958. */
function normalNumbers(seed: number): () => number {
  const generator = xoroshiro128plus(seed);
  const uniform = () => ((generator.next() >>> 0) + 0.5) / 2 ** 32;
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
