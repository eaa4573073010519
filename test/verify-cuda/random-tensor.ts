import type { Device } from "../../runtime/ort/device.js";
import type { ElementType, Tensor } from "../../runtime/ort/tensor.js";
import { randomWeights } from "../models/random-model.js";

/** Numbers that are drawn; the rest of a tensor repeats them. */
const DRAWN = 1 << 22;

/** Fills a tensor with random numbers in [-scale, scale), so that nothing on the GPU is faster than with a model's numbers. */
export function randomise(tensor: Tensor, scale: number, seed = 1): void {
  let filled = Math.min(DRAWN, tensor.size);
  tensor.write(randomWeights(filled, seed, scale));
  for (; filled < tensor.size; filled *= 2) tensor.copyFrom(tensor, 0, filled, Math.min(filled, tensor.size - filled));
}

export function randomTensor(device: Device, type: ElementType, shape: readonly number[], scale: number): Tensor {
  const tensor = device.zeros(type, shape);
  randomise(tensor, scale);
  return tensor;
}
