import type { ConfigFields } from "../config.js";
import type { Forward } from "../forward.js";
import type { ModelShape } from "../graph-interface.js";

/** A family of models: how its config is read, and its forward pass. One file each. */
export interface Architecture<Config> {
  readonly modelType: string;
  /** @throws ModelFormatError naming the field */
  readConfig(fields: ConfigFields): Config;
  shape(config: Config): ModelShape;
  forward(pass: Forward, config: Config): void;
}

/** An architecture with its config: all that the rest of the project knows of a family. */
export interface DescribedModel {
  readonly modelType: string;
  readonly shape: ModelShape;
  forward(pass: Forward): void;
}

export function describeWith<Config>(architecture: Architecture<Config>, fields: ConfigFields): DescribedModel {
  const config = architecture.readConfig(fields);
  return {
    modelType: architecture.modelType,
    shape: architecture.shape(config),
    forward: (pass) => architecture.forward(pass, config),
  };
}
