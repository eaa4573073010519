import { type ChosenActivation, checkChosen } from "../../../../models/sae/chosen-activation.js";
import { rowNorms } from "../../../../models/sae/folding.js";
import type { SaeActivation, SaeDescription } from "../../../../models/sae/sae.js";
import { prepareInput, type SaeInput } from "../../../../models/sae/sae-input.js";
import { type Cut, nativeCut, topAfaCut, topKCut } from "./cut.js";
import { rowsOf } from "./rows.js";

/** One row after encoding, in float64. */
export interface EncodedRow {
  readonly input: SaeInput;
  /** [dSae], before the cut. */
  readonly activations: Float64Array;
  /** [dSae]: (activation * |decoder row|)^2 */
  readonly shares: Float64Array;
  readonly cut: Cut;
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
