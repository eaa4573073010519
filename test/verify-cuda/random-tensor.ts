import type { Device } from "../../runtime/ort/device.js";
import type { ElementType } from "../../runtime/ort/elements.js";
import type { Tensor } from "../../runtime/ort/tensor.js";
import { randomWeights } from "../models/random-model.js";

/** Numbers that are drawn; the rest of a tensor repeats them. */
const DRAWN = 1 << 20;
let drawn: Float32Array | undefined;

/** Fills a tensor with random numbers in [-scale, scale), so that nothing on the GPU is faster than with a model's numbers. */
export function randomise(tensor: Tensor, scale: number): void {
  let filled = Math.min(DRAWN, tensor.size);
  drawn ??= randomWeights(DRAWN, 1);
  tensor.write(drawn.subarray(0, filled).map((value) => value * scale));
  for (; filled < tensor.size; filled *= 2) tensor.copyFrom(tensor, 0, filled, Math.min(filled, tensor.size - filled));
}

export function randomTensor(device: Device, type: ElementType, shape: readonly number[], scale: number): Tensor {
  const tensor = device.zeros(type, shape);
  randomise(tensor, scale);
  return tensor;
}
