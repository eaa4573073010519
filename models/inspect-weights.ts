import { ModelFormatError } from "./errors.js";
import type { Checkpoint } from "./weights/checkpoint.js";
import type { WeightPlan } from "./weights/weight-plan.js";

/** Elements of a tensor that are read at a time. */
const PIECE = 1 << 20;

/** Each tensor once, though a graph may use it in two layouts (tied embeddings). */
export const partsOf = (plan: WeightPlan | null) => [
  ...new Map(
    [...(plan?.sources.values() ?? [])].flatMap(({ parts }) => parts).map((part) => [part.tensor, part]),
  ).values(),
];

/** Numbers that a model's weights are. */
export const parametersOf = (plan: WeightPlan): number =>
  partsOf(plan).reduce((sum, { shape }) => sum + elements(shape), 0);

/** How many tensors are stored in each way. */
export function typesOf(checkpoint: Checkpoint): Record<string, number> {
  const types: Record<string, number> = {};
  for (const name of checkpoint.names()) types[checkpoint.dtype(name)] = (types[checkpoint.dtype(name)] ?? 0) + 1;
  return types;
}

/**
 * Reads every weight of a plan, a piece at a time.
 * @param onProgress called with the share of the tensors read so far, 0 to 1
 * @throws ModelFormatError naming the tensors with NaN or infinite values.
 */
export async function readThrough(
  checkpoint: Checkpoint,
  plan: WeightPlan,
  onProgress: (share: number) => void,
): Promise<void> {
  const parts = partsOf(plan);
  const broken = new Map<string, string>();
  for (const [i, { tensor, shape }] of parts.entries()) {
    const count = elements(shape);
    const buffer = new Float32Array(Math.min(PIECE, count));
    for (let at = 0; at < count && !broken.has(tensor); at += PIECE) {
      const piece = buffer.subarray(0, Math.min(PIECE, count - at));
      checkpoint.readF32Into(tensor, at, piece);
      if (!allFinite(piece)) broken.set(tensor, checkpoint.file(tensor));
      await new Promise(setImmediate);
    }
    onProgress((i + 1) / parts.length);
  }
  const [file] = broken.values();
  if (file !== undefined)
    throw new ModelFormatError(file, `NaN or infinite values in ${[...broken.keys()].join(", ")}`);
}

function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}

const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
