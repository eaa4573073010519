import { GGUF_ARCHITECTURES, type GgufArchitecture } from "./architectures.js";
import type { MetadataFields } from "./metadata-fields.js";

// Far above every published model, far below what would hurt.
const LAYERS = { min: 1, max: 2_000 };
const HEADS = { min: 1, max: 4_096 };
const HEAD_SIZE = { min: 1, max: 4_096 };
const WIDTH = { min: 1, max: 2 ** 20 };

/** The sizes that tensors are laid out by. */
export interface GgufSizes {
  readonly architecture: GgufArchitecture;
  /** Before the architecture's own keys: "llama." */
  readonly prefix: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** @throws ModelFormatError naming the key. */
export function ggufSizes(fields: MetadataFields): GgufSizes {
  const name = fields.text("general.architecture");
  const architecture = GGUF_ARCHITECTURES.get(name);
  if (architecture === undefined)
    throw fields.refuse("general.architecture", `those known here are ${[...GGUF_ARCHITECTURES.keys()].join(", ")}`);
  if (fields.has("general.type") && fields.text("general.type") !== "model")
    throw fields.refuse("general.type", "only files of type model hold a whole model");
  const key = (suffix: string) => `${name}.${suffix}`;
  if (fields.whole(key("expert_count"), { min: 0, max: 2 ** 32 }, 0) > 0)
    throw fields.refuse(key("expert_count"), "mixtures of experts are not known here");
  const hiddenSize = fields.whole(key("embedding_length"), WIDTH);
  const heads = fields.whole(key("attention.head_count"), HEADS);
  const kvHeads = fields.whole(key("attention.head_count_kv"), HEADS, heads);
  if (heads % kvHeads !== 0)
    throw fields.refuse(key("attention.head_count_kv"), `it must divide attention.head_count, which is ${heads}`);
  if (!fields.has(key("attention.key_length")) && hiddenSize % heads !== 0)
    throw fields.refuse(key("attention.head_count"), `it must divide embedding_length, which is ${hiddenSize}`);
  const headDim = fields.whole(key("attention.key_length"), HEAD_SIZE, hiddenSize / heads);
  if (headDim % 2 !== 0)
    throw fields.refuse(
      key("attention.key_length"),
      `a head has ${headDim} dimensions, but must have an even number, because rotary positions turn pairs`,
    );
  const layers = fields.whole(key("block_count"), LAYERS);
  return { architecture, prefix: `${name}.`, layers, hiddenSize, heads, kvHeads, headDim };
}
