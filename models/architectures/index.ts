import { z } from "zod";
import { type ConfigFields, modelType, parseFields } from "../config.js";
import { type Architecture, type DescribedModel, describeWith, type Tying } from "./architecture.js";
import { bloom } from "./bloom.js";
import { falcon } from "./falcon.js";
import { refuseForeignFields } from "./foreign-fields.js";
import { gemma2 } from "./gemma2.js";
import { gemma3, gemma3Text } from "./gemma3.js";
import { gptNeoX } from "./gpt-neox.js";
import { gpt2 } from "./gpt2.js";
import { gptJ } from "./gptj.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { mpt } from "./mpt.js";
import { olmo2 } from "./olmo2.js";
import { phi3 } from "./phi3.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";
import { smollm3 } from "./smollm3.js";

const describe =
  <Config extends Tying>(architecture: Architecture<Config>) =>
  (fields: ConfigFields): DescribedModel =>
    describeWith(architecture, fields);

/** Every architecture that lambdatap knows, by model_type. */
const ARCHITECTURES: Readonly<Record<string, (fields: ConfigFields) => DescribedModel>> = {
  gemma2: describe(gemma2),
  gemma3: describe(gemma3),
  gemma3_text: describe(gemma3Text),
  llama: describe(llama),
  mistral: describe(mistral),
  olmo2: describe(olmo2),
  phi3: describe(phi3),
  qwen2: describe(qwen2),
  qwen3: describe(qwen3),
  smollm3: describe(smollm3),
  bloom: describe(bloom),
  falcon: describe(falcon),
  gpt2: describe(gpt2),
  gpt_neox: describe(gptNeoX),
  gptj: describe(gptJ),
  mpt: describe(mpt),
};

const unquantised = z
  .null("weights quantised by other tools are not read: take the model they were made from, or a GGUF of it")
  .optional();
const Unquantised = z.object({ quantization_config: unquantised, compression_config: unquantised });

/** The model that a config describes. @throws ModelFormatError naming an unknown model_type, or the field that is wrong. */
export function describeModel(fields: ConfigFields): DescribedModel {
  parseFields(Unquantised, fields);
  const known = Object.keys(ARCHITECTURES);
  const type = modelType(fields, known);
  const found = ARCHITECTURES[type];
  refuseForeignFields(fields, type);
  if (found === undefined) throw new RangeError("modelType lets only known types through");
  return found(fields);
}
