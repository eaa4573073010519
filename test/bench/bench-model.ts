import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LlamaSizes, writeRandomLlama } from "../models/random-model.js";

/** SmolLM2-135M: 30 layers, d 576, 9 query and 3 key-value heads of 64, feed-forward 1536, vocabulary 49152, tied. */
export const SMOLLM2: LlamaSizes = {
  layers: 30,
  hidden: 576,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
  intermediate: 1536,
  vocab: 49152,
};

/** Weights that a token is multiplied with in the layers: 2 floating-point operations each. */
export const layerWeights = ({ layers, hidden, heads, kvHeads, headDim, intermediate }: LlamaSizes): number =>
  layers * (hidden * (heads + 2 * kvHeads) * headDim + heads * headDim * hidden + 3 * hidden * intermediate);

/** Where benchmarks keep what is made once: models with random weights, and what is compiled of them. */
export const benchFolder = (name: string): string => join(tmpdir(), "lambdatap-bench", name);

/** A folder with a tied Llama of random weights, made if it is not there. */
export function randomLlama(sizes: LlamaSizes): string {
  const folder = benchFolder(`llama-f32-${Object.values(sizes).join("-")}`);
  if (!existsSync(join(folder, "model.safetensors"))) writeRandomLlama(folder, sizes, { tied: true });
  return folder;
}
