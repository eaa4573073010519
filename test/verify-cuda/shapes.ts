import { layerWeights, SMOLLM2 } from "../bench/bench-model.js";
import type { LlamaSizes } from "../models/random-model.js";

/** A Llama whose head is its embedding matrix. */
export interface Shape {
  readonly name: string;
  readonly sizes: LlamaSizes;
}

const SMOLLM2_LARGE: LlamaSizes = {
  layers: 24,
  hidden: 2048,
  heads: 32,
  kvHeads: 32,
  headDim: 64,
  intermediate: 8192,
  vocab: 49152,
};

/** SmolLM2-135M. */
export const small = (tiny: boolean): Shape => ({ name: "135M", sizes: tiny ? { ...SMOLLM2, layers: 6 } : SMOLLM2 });

/** SmolLM2-1.7B. */
export const large = (tiny: boolean): Shape => ({
  name: "1.7B",
  sizes: tiny ? { ...SMOLLM2_LARGE, layers: 2, intermediate: 1024, vocab: 4096 } : SMOLLM2_LARGE,
});

/** Numbers that one token must be multiplied with: the layers' matrices and the head. */
export const weightsRead = (sizes: LlamaSizes): number => layerWeights(sizes) + sizes.vocab * sizes.hidden;

/** Numbers of keys and values of so many tokens. */
export const cached = ({ layers, kvHeads, headDim }: LlamaSizes, tokens: number): number =>
  2 * layers * kvHeads * headDim * tokens;

/**
 * Floating-point operations of a chunk whose first token sees `start` tokens before it, with at most `visible` keys for
 * each; no head.
 */
export function chunkOperations(sizes: LlamaSizes, start: number, tokens: number, visible: number): number {
  let keys = 0;
  for (let t = start; t < start + tokens; t++) keys += Math.min(t + 1, visible);
  return 2 * layerWeights(sizes) * tokens + 4 * sizes.layers * sizes.heads * sizes.headDim * keys;
}
