import type { CompiledModel } from "../../models/compile.js";
import { centringProblem } from "../../models/sae/centring.js";
import type { CompiledSae } from "../../models/sae/compile-sae.js";
import { SetupError } from "../contract/errors.js";
import type { SaeCard } from "../contract/features.js";

export interface CardOptions {
  readonly model: CompiledModel;
  /** What the model is called. */
  readonly names: readonly string[];
  /** SAEs that say they were trained on another model fit, too. */
  readonly anyModel: boolean;
}

/**
 * The card of an SAE, once it is known to fit the model.
 * @param id left out: the name of its hook
 * @throws SetupError where it does not fit.
 */
export function saeCard(
  { description: sae, precision }: CompiledSae,
  id: string | undefined,
  { model, names, anyModel }: CardOptions,
): SaeCard {
  const { activation, dIn, dSae, hook } = sae;
  const refuse = (reason: string): never => {
    throw new SetupError(`${sae.file} cannot be attached to ${names[0]}: ${reason}`);
  };
  if (!hook.tappable) return refuse(hook.reason);
  if (sae.kind === "transcoder") return refuse("it is a transcoder, which predicts another place than it reads");
  if (!model.hooks.includes(hook.name))
    return refuse(`the model has no ${hook.name} (${model.modelType}, ${model.shape.layers} layers)`);
  if (hook.ownOutput && model.shape.postNorm)
    return refuse(
      `it was trained on what the module itself returns, but a ${model.modelType} normalises that before it is added, and ${hook.name} is what is added`,
    );
  const problem = centringProblem(sae, model);
  if (problem !== null) return refuse(problem);
  if (dIn !== model.shape.hiddenSize)
    return refuse(`it reads ${dIn} numbers, and ${hook.name} has ${model.shape.hiddenSize}`);
  if (!anyModel && sae.modelName !== null && !names.some((name) => sameModel(name, sae.modelName ?? "")))
    return refuse(`it was trained on ${sae.modelName} (--sae-any-model attaches it nevertheless)`);
  return {
    id: id ?? hook.name,
    hook: hook.name,
    format: sae.format,
    activation: activation.kind,
    k: activation.kind === "top-k" ? activation.k : activation.kind === "group-max" ? activation.groups : null,
    normalisation: sae.normalisation,
    dIn,
    dSae,
    precision,
    modelName: sae.modelName,
    metadata: sae.metadata,
  };
}

/** Whether two spellings name one model: "gpt2-small" and "openai-community/gpt2", "google/gemma-2-2b" and "gemma-2-2b". */
function sameModel(a: string, b: string): boolean {
  const [left, right] = [a, b].map((name) => {
    const last = name.split("/").at(-1) ?? "";
    return last
      .toLowerCase()
      .replace(/[^a-z0-9]/g, "")
      .replace(/^gpt2small$/, "gpt2");
  });
  return left === right;
}
