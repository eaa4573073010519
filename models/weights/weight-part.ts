import type { Checkpoint } from "./checkpoint.js";
import { transposeRows } from "./transpose.js";

/** A tensor of a checkpoint as an architecture needs it: all of it, or some of its rows in another order. */
export interface WeightPart {
  readonly tensor: string;
  /** As the checkpoint has it: [out, in] or [n]; [in, out] where it is `inOut`. */
  readonly shape: readonly number[];
  /** The rows (outputs) taken, in this order, as [first, count] each; left out: all. */
  readonly rows?: readonly (readonly [first: number, count: number])[];
  /** Stored with inputs first, as GPT-2's Conv1D does. */
  readonly inOut?: true;
  /** Added to every value: 1 for gains that are stored as their distance from 1. */
  readonly plus?: number;
}

/** Outputs that a part has. */
export const partRows = ({ shape, rows, inOut }: WeightPart): number =>
  rows === undefined ? (shape[inOut ? 1 : 0] ?? 0) : rows.reduce((sum, [, count]) => sum + count, 0);

/** Inputs of each output; 1 for a vector. */
export const partColumns = ({ shape, inOut }: WeightPart): number => shape[inOut ? 0 : 1] ?? 1;

/** Rows [row, row + out.length / columns) of a part, as f32. */
export function readPart(checkpoint: Checkpoint, part: WeightPart, row: number, out: Float32Array): void {
  const columns = partColumns(part);
  for (const [first, count, at] of storedRows(part, row, out.length / columns)) {
    const target = out.subarray(at * columns, (at + count) * columns);
    if (part.inOut) readColumns(checkpoint, part, first, target);
    else checkpoint.readF32Into(part.tensor, first * columns, target);
  }
  const { plus } = part;
  if (plus !== undefined) for (let i = 0; i < out.length; i++) out[i] = (out[i] ?? 0) + plus;
}

/** Runs of stored rows that rows [row, row + count) of a part are: first stored row, how many, and where they go. */
export function storedRows(
  part: WeightPart,
  row: number,
  count: number,
): readonly (readonly [first: number, count: number, at: number])[] {
  const runs: (readonly [number, number, number])[] = [];
  let start = 0;
  for (const [first, length] of part.rows ?? [[0, partRows(part)]]) {
    const from = Math.max(row, start);
    const end = Math.min(row + count, start + length);
    if (from < end) runs.push([first + from - start, end - from, from - row]);
    start += length;
  }
  return runs;
}

/** Columns [first, first + n) of a matrix [in, out] as rows [n, in]. */
function readColumns(checkpoint: Checkpoint, { tensor, shape }: WeightPart, first: number, target: Float32Array): void {
  const [inputs = 0, outputs = 0] = shape;
  const rows = target.length / inputs;
  const panel = new Float32Array(target.length); // [in, n]
  for (let i = 0; i < inputs; i++)
    checkpoint.readF32Into(tensor, i * outputs + first, panel.subarray(i * rows, (i + 1) * rows));
  transposeRows(panel, rows, target, inputs, 0);
}
