import { availableParallelism } from "node:os";
import { findModel } from "../../models/hub/find-model.js";
import type { Engine } from "../../runtime/contract/generation.js";
import { UsageError } from "./flags.js";
import { type EngineOptions, SaeFolder, type ServeOptions } from "./options.js";
import { type EngineLoad, embeddedModel, startEngine } from "./start-engine.js";

type Planned = EngineOptions & { readonly name: string };

/**
 * The models that the flags of a server name, each with the flags of a command that loads one.
 * @throws UsageError where two have one name, or a flag goes with one model only; HubError where one is not there.
 */
export function planModels(options: ServeOptions, env: Readonly<Record<string, string | undefined>>): Planned[] {
  const named = options.model.length > 0 ? options.model : [{ model: embeddedModel() }];
  const models = named.map(({ name, model }) => ({ model, name: name ?? findModel(model, env).name }));
  const [only, ...more] = models;
  if (only !== undefined && more.length === 0) return [{ ...options, ...only }];
  if (options.servedModelName.length > 0)
    throw new UsageError("--served-model-name goes with one model: name several with --model <name>=<model>");
  if (options.chatTemplate !== undefined)
    throw new UsageError("--chat-template goes with one model: the others would answer in its words too");
  const names = models.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new UsageError(`two models are named '${twice}': name one with --model <name>=<model>`);
  const saes = shareSaes(options.sae, names);
  // The threads of ONNX Runtime are those of the process: the first model would choose for all.
  const threads = options.threads ?? availableParallelism();
  return models.map((each) => ({ ...options, ...each, threads, sae: saes.get(each.name) }));
}

/** Loads one after the other; memory for prompts is split evenly. Where one cannot be loaded, those before it are closed. */
export async function startModels(models: readonly Planned[], load: EngineLoad): Promise<Engine[]> {
  const engines: Engine[] = [];
  const { length } = models;
  const prefixBytes = load.prefixBytes === undefined ? undefined : Math.floor(load.prefixBytes / length);
  try {
    for (const model of models) engines.push(await startEngine(model, { ...load, prefixBytes, models: length }));
    return engines;
  } catch (error) {
    await Promise.all(engines.map((engine) => engine.close()));
    throw error;
  }
}

/** `<model>:[name=]folder` for each, or none for all; a model that is not mentioned has those beside it. */
function shareSaes(
  saes: ServeOptions["sae"],
  models: readonly string[],
): Map<string, NonNullable<ServeOptions["sae"]>> {
  const none = [{ folder: "none" }];
  if (saes?.length === 1 && saes[0]?.id === undefined && saes[0]?.folder === "none")
    return new Map(models.map((name) => [name, none]));
  const shared = new Map<string, NonNullable<ServeOptions["sae"]>>();
  const longestFirst = [...models].sort((a, b) => b.length - a.length);
  for (const { id, folder } of saes ?? []) {
    const text = id === undefined ? folder : `${id}=${folder}`;
    const model = longestFirst.find((name) => text.startsWith(`${name}:`));
    if (model === undefined)
      throw new UsageError(
        `--sae '${text}': with several models, say which it is for: <model>:[name=]<folder>, a model being ${models.join(", ")}`,
      );
    const sae = SaeFolder.safeParse(text.slice(model.length + 1));
    if (!sae.success) throw new UsageError(`--sae '${text}': ${sae.error.issues[0]?.message}`);
    shared.set(model, [...(shared.get(model) ?? []), sae.data]);
  }
  for (const [model, own] of shared)
    if (own.length > 1 && own.some((sae) => sae.folder === "none"))
      throw new UsageError(`--sae '${model}:none': none goes with no other`);
  return shared;
}
