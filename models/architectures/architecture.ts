import type { ConfigFields } from "../config.js";
import type { Forward } from "../forward.js";
import type { ModelShape } from "../model-shape.js";
import type { TensorNames } from "../weights/tensor-names.js";

/** A family of models: how its config is read, and its forward pass. One file each. */
export interface Architecture<Config extends Tying> {
  readonly modelType: string;
  readonly names: TensorNames;
  /** @throws ModelFormatError naming the field */
  readConfig(fields: ConfigFields): Config;
  shape(config: Config): ModelShape;
  forward(pass: Forward, config: Config): void;
}

/** What every config says of its output matrix; left out: it is never the embedding. */
export interface Tying {
  readonly tieWordEmbeddings?: boolean;
}

/** An architecture with its config: all that the rest of the project knows of a family. */
export interface DescribedModel {
  readonly modelType: string;
  readonly names: TensorNames;
  readonly shape: ModelShape;
  forward(pass: Forward): void;
  /** The same model with an output matrix of its own; null where it has one. */
  readonly untied: (() => DescribedModel) | null;
}

export const describeWith = <Config extends Tying>(
  architecture: Architecture<Config>,
  fields: ConfigFields,
): DescribedModel => described(architecture, architecture.readConfig(fields));

function described<Config extends Tying>(architecture: Architecture<Config>, config: Config): DescribedModel {
  const { modelType, names } = architecture;
  return {
    modelType,
    names,
    shape: architecture.shape(config),
    forward: (pass) => architecture.forward(pass, config),
    untied: config.tieWordEmbeddings ? () => described(architecture, { ...config, tieWordEmbeddings: false }) : null,
  };
}
