import type { SaeDescription } from "../../../../models/sae/sae.js";
import { prepareInput, type SaeInput } from "../../../../models/sae/sae-input.js";
import { rowsOf } from "./rows.js";

/**
 * Reconstructions [rows, dOut], row-major, on x's own scale (of a transcoder: its output), of dense activations
 * [rows, dSae] for the inputs x [rows, dIn], which give the scale and what passes by W_skip. Every sum in float64.
 * @throws RangeError if these are not whole rows, or not equally many.
 */
export function decode(sae: SaeDescription, activations: Float32Array, x: Float32Array): Float32Array {
  const inputs = rowsOf(x, sae.dIn);
  const rows = rowsOf(activations, sae.dSae);
  if (rows.length !== inputs.length) throw new RangeError(`${rows.length} rows of activations, ${inputs.length} of x`);
  const out = new Float32Array(rows.length * sae.dOut);
  for (const [row, values] of rows.entries()) {
    const input = inputs[row] ?? new Float32Array(sae.dIn);
    out.set(decodeRow(sae, nonZero(values), prepareInput(sae, input), input), row * sae.dOut);
  }
  return out;
}

/** One output [dOut] from [feature, activation] pairs. */
export function decodeRow(
  { bDec, wDec, wSkip, dIn, dOut }: SaeDescription,
  features: Iterable<readonly [feature: number, activation: number]>,
  { scale, shift }: SaeInput,
  x: Float32Array,
): Float64Array {
  const out = Float64Array.from(bDec);
  for (const [feature, activation] of features) {
    const base = feature * dOut;
    for (let i = 0; i < dOut; i++) out[i]! += activation * wDec[base + i]!;
  }
  if (wSkip)
    for (let i = 0; i < dOut; i++) for (let from = 0; from < dIn; from++) out[i]! += wSkip[i * dIn + from]! * x[from]!;
  return out.map((value) => value * scale + shift);
}

function* nonZero(values: Float32Array): Generator<readonly [number, number]> {
  for (const [feature, value] of values.entries()) if (value !== 0) yield [feature, value];
}
