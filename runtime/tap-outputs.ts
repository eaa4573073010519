import type { TapOutput } from "../models/graph-interface.js";
import type { HookName } from "../models/hooks.js";
import type { Device } from "./ort/device.js";
import type { Tensor } from "./ort/tensor.js";

/** What the hooks of a run hold, [tokens of the run, hiddenSize] each. */
export type Residuals = Map<HookName, Float32Array>;

/** A tensor of `shape` for every output of the taps; hooks that are one tensor have one output. */
export function tapTensors(taps: readonly TapOutput[], shape: readonly number[], device: Device): Map<string, Tensor> {
  const names = new Set(taps.map(({ output }) => output));
  return new Map([...names].map((name) => [name, device.zeros("float32", shape)]));
}

/** Copies what a run has left in the tensors of its taps. */
export function readTaps(taps: readonly TapOutput[], tensors: ReadonlyMap<string, Tensor>, into: Residuals): void {
  for (const { hook, output } of taps) {
    const tensor = tensors.get(output);
    if (tensor !== undefined) into.set(hook, tensor.read(new Float32Array(tensor.size)));
  }
}
