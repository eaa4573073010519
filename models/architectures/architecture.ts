import type { ConfigFields } from "../config.js";
import type { Forward } from "../forward.js";
import type { ModelShape } from "../graph-interface.js";

/** A family of models: how its config is read, and its forward pass. One file each. */
export interface Architecture<Config> {
  readonly modelType: string;
  /** What names of tensors start with and a checkpoint may leave out, as one that was saved without its head does. */
  readonly optionalPrefix?: string;
  /** @throws ModelFormatError naming the field */
  readConfig(fields: ConfigFields): Config;
  shape(config: Config): ModelShape;
  forward(pass: Forward, config: Config): void;
}

/** An architecture with its config: all that the rest of the project knows of a family. */
export interface DescribedModel extends Pick<Architecture<unknown>, "modelType" | "optionalPrefix"> {
  readonly shape: ModelShape;
  forward(pass: Forward): void;
}

export function describeWith<Config>(architecture: Architecture<Config>, fields: ConfigFields): DescribedModel {
  const config = architecture.readConfig(fields);
  const { modelType, optionalPrefix } = architecture;
  return {
    modelType,
    ...(optionalPrefix === undefined ? {} : { optionalPrefix }),
    shape: architecture.shape(config),
    forward: (pass) => architecture.forward(pass, config),
  };
}
