import type { CompiledModel } from "../../models/compile.js";

/**
 * The tokens that a text begins with: those that its tokenizer puts before it, else BOS where the model has one, as TransformerLens
 * and SAELens begin texts.
 */
export function textStart({ generation, shape }: Pick<CompiledModel, "generation" | "shape">): readonly number[] {
  const before = generation.frame?.before ?? [];
  const bos = generation.bosTokenId ?? shape.bosTokenId;
  // A generation_config.json may name one that the model does not know.
  return before.length > 0 || bos === null || bos >= shape.vocabSize ? before : [bos];
}
