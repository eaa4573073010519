import { ModelFormatError } from "../errors.js";
import type { Checkpoint } from "./checkpoint.js";
import type { WeightPlan } from "./weight-plan.js";

/** The names of an architecture's tensors, and how else a checkpoint may spell them. */
export interface TensorNames {
  /**
   * What the base model is called in the whole one (transformers' base_model_prefix), with a dot behind it. A checkpoint may
   * leave it out, as one that was saved without the head does, or have it before the head, too.
   */
  readonly base: string;
  readonly embedding: string;
  readonly head: string;
  /** Other beginnings of names: as they are stored, and what they stand for. */
  readonly renamed?: readonly (readonly [stored: string, name: string])[];
}

/** The names under which a checkpoint may hold a tensor. */
function spellings(name: string, { base, renamed = [] }: TensorNames): Set<string> {
  const own = [name, name.startsWith(base) ? name.slice(base.length) : `${base}${name}`];
  const others = own.flatMap((each) =>
    renamed.flatMap(([stored, from]) => (each.startsWith(from) ? [`${stored}${each.slice(from.length)}`] : [])),
  );
  return new Set([...own, ...others]);
}

/**
 * The name under which a checkpoint holds a tensor; null where it has none.
 * @throws ModelFormatError where it has several.
 */
function storedName(checkpoint: Checkpoint, name: string, names: TensorNames): string | null {
  const [found, second] = [...spellings(name, names)].filter((each) => checkpoint.has(each));
  if (found !== undefined && second !== undefined)
    throw new ModelFormatError(checkpoint.file(found), `tensors "${found}" and "${second}" are both "${name}"`);
  return found ?? null;
}

/**
 * The same weights under an architecture's names.
 * @param tied whether the head is the embedding: then it is enough that one of the two is stored
 */
export function underNames(checkpoint: Checkpoint, names: TensorNames, tied: boolean): Checkpoint {
  const known = new Map<string, string>();
  const find = (name: string): string => {
    const other = tied && name === names.embedding ? names.head : name;
    return storedName(checkpoint, name, names) ?? storedName(checkpoint, other, names) ?? name;
  };
  const stored = (name: string): string => {
    const found = known.get(name) ?? find(name);
    known.set(name, found);
    return found;
  };
  return {
    folder: checkpoint.folder,
    files: checkpoint.files,
    names: () => checkpoint.names(),
    has: (name) => checkpoint.has(stored(name)),
    shape: (name) => checkpoint.shape(stored(name)),
    file: (name) => checkpoint.file(stored(name)),
    dtype: (name) => checkpoint.dtype(stored(name)),
    readF32: (name, start, count) => checkpoint.readF32(stored(name), start, count),
    readF32Into: (name, start, out) => checkpoint.readF32Into(stored(name), start, out),
    readBlocks: (name, row, rows) => checkpoint.readBlocks(stored(name), row, rows),
    expect: (name, shape) => checkpoint.expect(stored(name), shape),
    close: () => checkpoint.close(),
    [Symbol.dispose]: () => checkpoint.close(),
  };
}

/** Tensors that published checkpoints hold and that no forward pass needs: tables of positions, causal masks, images. */
const NEEDLESS =
  /(?:\.rotary_emb\.inv_freq|\battn\.(?:masked_)?bias|\battention\.(?:masked_)?bias)$|vision_tower|multi_modal_projector/;

/** Names of tensors that a sentence lists. */
const LISTED = 4;

/** Says which stored tensors a model does not read; null where it reads all that matter. */
export function unreadSentence(checkpoint: Checkpoint, names: TensorNames, plan: WeightPlan): string | null {
  const read = [...plan.sources.values()].flatMap(({ parts }) => parts.map(({ tensor }) => tensor));
  const unread = new Set([...checkpoint.names()].filter((name) => !NEEDLESS.test(name)));
  for (const name of [...read, names.embedding, names.head])
    for (const each of spellings(name, names)) unread.delete(each);
  if (unread.size === 0) return null;
  const more = unread.size > LISTED ? ` and ${unread.size - LISTED} more` : "";
  return `tensors that this architecture does not have are not read: ${[...unread].slice(0, LISTED).join(", ")}${more}`;
}
