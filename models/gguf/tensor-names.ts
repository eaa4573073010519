import { ModelFormatError } from "../errors.js";
import type { GgufFiles, PlacedTensor } from "./gguf-files.js";
import type { GgufSizes } from "./gguf-sizes.js";

/** Tensors that the config is made of: they are no weights. */
const OF_THE_CONFIG: readonly string[] = ["rope_freqs.weight"];

/** A weight under its Hugging Face name; `pattern`: its GGUF name with {} for the layer. */
export interface NamedTensor extends PlacedTensor {
  readonly pattern: string;
}

/**
 * The tensors of a model by their Hugging Face names.
 * @throws ModelFormatError naming a tensor that the architecture does not have, or of a layer beyond the last: leaving one
 * out would give answers of another model.
 */
export function nameTensors(
  { tensors }: GgufFiles,
  { architecture, prefix, layers }: GgufSizes,
): ReadonlyMap<string, NamedTensor> {
  const named = new Map<string, NamedTensor>();
  for (const [name, tensor] of tensors) {
    if (OF_THE_CONFIG.includes(name)) continue;
    const layer = /^blk\.(0|[1-9]\d*)\./.exec(name)?.[1];
    const pattern = layer === undefined ? name : name.replace(layer, "{}");
    const known = architecture.tensors.get(pattern);
    if (known === undefined)
      throw new ModelFormatError(tensor.file.path, `tensor "${name}" is none that the architecture has`);
    if (layer !== undefined && Number(layer) >= layers)
      throw new ModelFormatError(tensor.file.path, `tensor "${name}" is there, but ${prefix}block_count is ${layers}`);
    named.set(known.replace("{}", layer ?? ""), { ...tensor, pattern });
  }
  return named;
}

/** What GGUF calls a tensor of Hugging Face's; null where it has no such tensor. */
export function ggufName({ architecture }: GgufSizes, name: string): string | null {
  const layer = /\.(\d+)\./.exec(name)?.[1];
  const pattern = layer === undefined ? name : name.replace(`.${layer}.`, ".{}.");
  for (const [gguf, known] of architecture.tensors) if (known === pattern) return gguf.replace("{}", layer ?? "");
  return null;
}
