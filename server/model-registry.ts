import { SetupError } from "../runtime/contract/errors.js";
import type { Engine } from "../runtime/contract/generation.js";
import { UnknownModel } from "./errors.js";

/** A model under one of its names. */
export interface NamedModel {
  readonly name: string;
  readonly engine: Engine;
}

export interface ModelRegistry {
  /** Every name, aliases included, in the order in which they were given. */
  list(): readonly NamedModel[];
  /** @throws UnknownModel. Without a name: the first model. */
  get(name: string | null | undefined): NamedModel;
  /** Every engine once. */
  engines(): readonly Engine[];
}

/** @throws SetupError where two models have the same name. */
export function createModelRegistry(
  models: readonly { readonly engine: Engine; readonly aliases?: readonly string[] }[],
): ModelRegistry {
  const byName = new Map<string, NamedModel>();
  for (const { engine, aliases = [] } of models) {
    for (const name of new Set([engine.card.id, ...aliases])) {
      if (byName.has(name)) throw new SetupError(`two models are named '${name}'`);
      byName.set(name, { name, engine });
    }
  }
  const [first] = byName.values();
  if (first === undefined) throw new SetupError("there is no model to serve");
  return {
    list: () => [...byName.values()],
    engines: () => models.map(({ engine }) => engine),
    get(name) {
      if (name === null || name === undefined) return first;
      const model = byName.get(name);
      if (model === undefined) throw new UnknownModel(name);
      return model;
    },
  };
}
