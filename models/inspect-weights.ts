import type { ElementType } from "./onnx/graph.js";
import type { Checkpoint } from "./weights/checkpoint.js";
import { UnfitWeights } from "./weights/unfit-weights.js";
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
 * @throws ModelFormatError naming the tensors with NaN or infinite values, or values that the type they are kept in has
 * no room for.
 */
export async function readThrough(
  checkpoint: Checkpoint,
  plan: WeightPlan,
  onProgress: (share: number) => void,
): Promise<void> {
  const parts = partsOf(plan);
  const unfit = new UnfitWeights();
  const types = keptTypes(plan);
  for (const [i, { tensor, shape }] of parts.entries()) {
    const count = elements(shape);
    const buffer = new Float32Array(Math.min(PIECE, count));
    for (let at = 0; at < count && !unfit.has(tensor); at += PIECE) {
      const piece = buffer.subarray(0, Math.min(PIECE, count - at));
      checkpoint.readF32Into(tensor, at, piece);
      unfit.look(piece, types.get(tensor) ?? "float32", tensor, checkpoint.file(tensor));
      await new Promise(setImmediate);
    }
    onProgress((i + 1) / parts.length);
  }
  unfit.refuse();
}

/** What each tensor is kept in; float16 where one of its places is. */
function keptTypes({ sources, places }: WeightPlan): ReadonlyMap<string, ElementType> {
  const kept = new Map<string, ElementType>();
  for (const [name, { parts }] of sources)
    for (const { tensor } of parts)
      if (kept.get(tensor) !== "float16") kept.set(tensor, places.get(name)?.type ?? "float32");
  return kept;
}

const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
