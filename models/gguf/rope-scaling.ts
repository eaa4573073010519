import { ModelFormatError } from "../errors.js";
import type { JsonObject } from "../model-file.js";
import type { PlacedTensor } from "./gguf-files.js";
import type { MetadataFields } from "./metadata-fields.js";
import { openTensorData } from "./tensor-data.js";

const POSITIONS = { min: 1, max: 2 ** 40 };

/**
 * What a config's `rope_scaling` says of the same rotary positions; null where nothing is scaled.
 * @param divisors the tensor rope_freqs.weight, where the file has one: frequency i is divided by its element i
 * @throws ModelFormatError naming the key or the tensor.
 */
export function ropeScaling(
  fields: MetadataFields,
  prefix: string,
  divisors: PlacedTensor | undefined,
  { headDim, maxPositionEmbeddings }: { readonly headDim: number; readonly maxPositionEmbeddings: number },
): JsonObject | null {
  const key = (suffix: string) => `${prefix}rope.scaling.${suffix}`;
  const legacy = `${prefix}rope.scale_linear`;
  const type = fields.text(key("type"), fields.has(legacy) ? "linear" : "none");
  if (divisors !== undefined) {
    if (type !== "none") throw fields.refuse(key("type"), "the frequencies also have divisors, rope_freqs.weight");
    return { rope_type: "divided", divisors: [...readDivisors(divisors, headDim)] };
  }
  switch (type) {
    case "none":
      return null;
    case "linear":
      return { rope_type: "linear", factor: fields.positive(fields.has(legacy) ? legacy : key("factor")) };
    case "yarn": {
      const factor = fields.positive(key("factor"));
      for (const suffix of ["yarn_log_multiplier", "yarn_ext_factor", "yarn_attn_factor"])
        if (fields.positive(key(suffix), 1) !== 1) throw fields.refuse(key(suffix), "only 1 is known here");
      return {
        rope_type: "yarn",
        factor,
        original_max_position_embeddings: fields.whole(
          key("original_context_length"),
          POSITIONS,
          maxPositionEmbeddings,
        ),
        // llama.cpp multiplies what YaRN makes of the factor, Hugging Face puts the number in its place.
        attention_factor: fields.positive(key("attn_factor"), 1) * Math.max(1, 0.1 * Math.log(factor) + 1),
        beta_fast: fields.positive(key("yarn_beta_fast"), 32),
        beta_slow: fields.positive(key("yarn_beta_slow"), 1),
      };
    }
    default:
      throw fields.refuse(key("type"), "the kinds known here are none, linear and yarn");
  }
}

function readDivisors({ name, file, info }: PlacedTensor, headDim: number): Float32Array {
  const refuse = (reason: string) => new ModelFormatError(file.path, `tensor "${name}" ${reason}`);
  if (info.shape.length !== 1 || info.shape[0] !== headDim / 2)
    throw refuse(`has shape [${info.shape.join(", ")}], but a head has ${headDim / 2} frequencies`);
  const data = openTensorData(file);
  try {
    const values = new Float32Array(headDim / 2);
    data.decode(name, info, 0, values);
    const wrong = values.find((value) => !(value > 0 && Number.isFinite(value)));
    if (wrong !== undefined)
      throw refuse(`has the element ${wrong}, but frequencies can only be divided by numbers above 0`);
    return values;
  } finally {
    data.close();
  }
}
