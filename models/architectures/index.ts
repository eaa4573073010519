import { type ConfigFields, modelType } from "../config.js";
import { type Architecture, type DescribedModel, describeWith } from "./architecture.js";
import { bloom } from "./bloom.js";
import { falcon } from "./falcon.js";
import { gptNeoX } from "./gpt-neox.js";
import { gpt2 } from "./gpt2.js";
import { gptJ } from "./gptj.js";
import { llama } from "./llama.js";
import { mpt } from "./mpt.js";

const describe =
  <Config>(architecture: Architecture<Config>) =>
  (fields: ConfigFields): DescribedModel =>
    describeWith(architecture, fields);

/** Every architecture that lambdatap knows, by model_type. */
const ARCHITECTURES: Readonly<Record<string, (fields: ConfigFields) => DescribedModel>> = {
  bloom: describe(bloom),
  falcon: describe(falcon),
  gpt2: describe(gpt2),
  gpt_neox: describe(gptNeoX),
  gptj: describe(gptJ),
  llama: describe(llama),
  mpt: describe(mpt),
};

/** The model that a config describes. @throws ModelFormatError naming an unknown model_type, or the field that is wrong. */
export function describeModel(fields: ConfigFields): DescribedModel {
  const known = Object.keys(ARCHITECTURES);
  const found = ARCHITECTURES[modelType(fields, known)];
  if (found === undefined) throw new RangeError("modelType lets only known types through");
  return found(fields);
}
