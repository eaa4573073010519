import { type Cut, nativeCut, topAfaCut, topKCut } from "./cut.js";
import { rowNorms } from "./folding.js";
import type { SaeActivation, SaeDescription } from "./sae.js";
import { prepareInput, type SaeInput } from "./sae-input.js";

/**
 * How features are chosen: as the SAE was trained, by top-AFA, or the k largest. The last two start from the SAE's own
 * activations (biases, thresholds and gates applied) before any cut of its own.
 */
export type ChosenActivation =
  | { readonly kind: "native" }
  | { readonly kind: "top-afa" }
  | { readonly kind: "top-k"; readonly k: number };

/** One row after encoding, in float64. */
export interface EncodedRow {
  readonly input: SaeInput;
  /** [dSae], before the cut. */
  readonly activations: Float64Array;
  /** [dSae]: (activation * |decoder row|)^2 */
  readonly shares: Float64Array;
  readonly cut: Cut;
}

/**
 * @throws RangeError if top-AFA is asked of a transcoder, whose output has nothing to do with the norm of its input, or k
 * is not a whole number of features.
 */
export function checkChosen(
  { kind, file, dSae }: Pick<SaeDescription, "kind" | "file" | "dSae">,
  chosen: ChosenActivation,
): void {
  if (chosen.kind === "top-afa" && kind === "transcoder")
    throw new RangeError(`top-AFA is for autoencoders, and ${file} is a transcoder`);
  if (chosen.kind === "top-k" && !(Number.isInteger(chosen.k) && chosen.k >= 1 && chosen.k <= dSae))
    throw new RangeError(`top-k keeps a whole number from 1 to ${dSae} of features, not ${chosen.k}`);
}

/** Encodes row after row. @throws RangeError as `checkChosen`. */
export function rowEncoder(sae: SaeDescription, chosen: ChosenActivation): (x: Float32Array) => EncodedRow {
  checkChosen(sae, chosen);
  const norms = rowNorms(sae.wDec, sae.dSae);
  return (x) => {
    const input = prepareInput(sae, x);
    const activations = ownActivations(sae.activation, preActivations(sae, input.encoded));
    const shares = activations.map((value, feature) => (value * (norms[feature] ?? 0)) ** 2);
    return { input, activations, shares, cut: cut(sae, chosen, shares, input.norm, activations) };
  };
}

/**
 * Dense activations [rows, dSae], row-major, of x [rows, dIn]; zero where a feature is not kept.
 * The reference: every sum in float64. A row of x that holds NaN has no features.
 * @throws RangeError as `rowEncoder`, or if x is not whole rows.
 */
export function encode(
  sae: SaeDescription,
  x: Float32Array,
  chosen: ChosenActivation = { kind: "native" },
): Float32Array {
  const encodeRow = rowEncoder(sae, chosen);
  const rows = rowsOf(x, sae.dIn);
  const out = new Float32Array(rows.length * sae.dSae);
  for (const [row, values] of rows.entries()) {
    const { activations, cut } = encodeRow(values);
    for (const feature of cut.features) out[row * sae.dSae + feature] = activations[feature] ?? 0;
  }
  return out;
}

/** The rows of a matrix, as views. */
export function rowsOf(matrix: Float32Array, width: number): Float32Array[] {
  if (matrix.length % width !== 0) throw new RangeError(`${matrix.length} values are not rows of ${width}`);
  const rows: Float32Array[] = [];
  for (let start = 0; start < matrix.length; start += width) rows.push(matrix.subarray(start, start + width));
  return rows;
}

function preActivations({ wEnc, bEnc, dIn, dSae }: SaeDescription, encoded: Float64Array): Float64Array {
  const sums = new Float64Array(dSae);
  for (let i = 0; i < dIn; i++) {
    const value = encoded[i] ?? 0;
    const base = i * dSae;
    for (let feature = 0; feature < dSae; feature++) sums[feature]! += value * wEnc[base + feature]!;
  }
  if (bEnc) for (let feature = 0; feature < dSae; feature++) sums[feature]! += bEnc[feature]!;
  return sums;
}

function ownActivations(activation: SaeActivation, z: Float64Array): Float64Array {
  const relu = (value: number): number => Math.max(value, 0);
  switch (activation.kind) {
    case "jumprelu": {
      const { threshold } = activation;
      return z.map((value, feature) => (value > (threshold[feature] ?? 0) ? relu(value) : 0));
    }
    case "gated": {
      const { bGate, bMag, rMag } = activation;
      return z.map((value, feature) =>
        value + (bGate[feature] ?? 0) > 0 ? relu(Math.exp(rMag[feature] ?? 0) * value + (bMag[feature] ?? 0)) : 0,
      );
    }
    default:
      return z.map(relu);
  }
}

function cut(
  { activation }: SaeDescription,
  chosen: ChosenActivation,
  shares: Float64Array,
  norm: number,
  activations: Float64Array,
): Cut {
  if (chosen.kind === "top-afa") return topAfaCut(shares, norm, activations);
  if (chosen.kind === "top-k") return topKCut(activations, chosen.k);
  return nativeCut(activation, shares, norm, activations);
}
