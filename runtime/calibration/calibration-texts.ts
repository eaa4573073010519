import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { CompiledModel } from "../../models/compile.js";
import { calibrationLength } from "./kv-ranges-of.js";

/** Tokens that a model is calibrated with. */
const TOKENS = 2048;
const SEED = 17;

/**
 * The texts that a model is calibrated with: the first tokens of one, in pieces. Every other piece begins with the token
 * that begins the model's texts, because requests of ids may leave it out.
 * @param ids of the calibration text; null: ids drawn from the vocabulary, for a model without a tokenizer
 */
export function calibrationTexts(
  { shape, generation }: Pick<CompiledModel, "shape" | "generation">,
  ids: ArrayLike<number> | null,
): number[][] {
  const bos = generation.bosTokenId ?? shape.bosTokenId;
  const framed = generation.frame?.before ?? [];
  // A generation_config.json may name one that the model does not know.
  const before = framed.length > 0 || bos === null || bos >= shape.vocabSize ? framed : [bos];
  const length = calibrationLength(shape);
  const all = Array.from(ids ?? drawn(shape.vocabSize)).slice(0, TOKENS);
  const texts: number[][] = [];
  for (let read = 0; read < all.length; ) {
    const begins = texts.length % 2 === 0 ? before.slice(0, length - 1) : [];
    const piece = all.slice(read, read + length - begins.length);
    texts.push([...begins, ...piece]);
    read += piece.length;
  }
  return texts;
}

function drawn(vocabSize: number): number[] {
  const random = xoroshiro128plus(SEED);
  return Array.from({ length: TOKENS }, () => uniformInt(random, 0, vocabSize - 1));
}
