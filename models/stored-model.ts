import type { DescribedModel } from "./architectures/architecture.js";
import type { ModelSource } from "./model-source.js";
import type { Checkpoint } from "./weights/checkpoint.js";
import { underNames } from "./weights/tensor-names.js";

/** A model as its config and its tensors together have it. */
export interface StoredModel {
  readonly model: DescribedModel;
  /** Under the architecture's names; the caller closes it. */
  readonly checkpoint: Checkpoint;
}

/** Numbers that are compared at a time. */
const PIECE = 1 << 20;

/**
 * Opens a model's weights. Where the config ties the head to the embedding and both are stored with different values, both
 * are used, as transformers 5 does; where only one of them is stored, it is both.
 * @throws ModelFormatError as `openCheckpoint`, or where a tensor is stored under two names.
 */
export function openStored(source: ModelSource, model: DescribedModel): StoredModel {
  const checkpoint = source.openCheckpoint();
  try {
    const apart = model.untied !== null && headsDiffer(underNames(checkpoint, model.names, false), model.names);
    const stored = apart && model.untied ? model.untied() : model;
    return { model: stored, checkpoint: underNames(checkpoint, stored.names, stored.untied !== null) };
  } catch (error) {
    checkpoint.close();
    throw error;
  }
}

function headsDiffer(checkpoint: Checkpoint, { embedding, head }: DescribedModel["names"]): boolean {
  if (!checkpoint.has(embedding) || !checkpoint.has(head)) return false;
  const [shape, other] = [checkpoint.shape(embedding), checkpoint.shape(head)];
  if (shape.join() !== other.join()) return true;
  const elements = shape.reduce((product, size) => product * size, 1);
  const [a, b] = [new Float32Array(Math.min(PIECE, elements)), new Float32Array(Math.min(PIECE, elements))];
  for (let at = 0; at < elements; at += PIECE) {
    const length = Math.min(PIECE, elements - at);
    checkpoint.readF32Into(embedding, at, a.subarray(0, length));
    checkpoint.readF32Into(head, at, b.subarray(0, length));
    for (let i = 0; i < length; i++) if (a[i] !== b[i]) return true;
  }
  return false;
}
