import type { TapOutput } from "../../models/graph-interface.js";
import type { HookName } from "../../models/hooks.js";
import type { Device } from "../ort/device.js";
import type { Tensor } from "../ort/tensor.js";
import type { RowRange } from "./row-block.js";

/** What the hooks of a run hold, [tokens of the run, hiddenSize] each. */
export type Residuals = Map<HookName, Float32Array>;

/**
 * The same where the run has left it; of a decode step, until the next. Its owner disposes it, and with it the tensors.
 */
export class TapRows extends Map<HookName, Tensor> implements Disposable {
  [Symbol.dispose](): void {
    for (const rows of this.values()) rows[Symbol.dispose]();
  }
}

/** A tensor of `shape` for every output of the taps; hooks that are one tensor have one output. */
export function tapTensors(taps: readonly TapOutput[], shape: readonly number[], device: Device): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  try {
    for (const { output } of taps) if (!tensors.has(output)) tensors.set(output, device.zeros("float32", shape));
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor[Symbol.dispose]();
    throw error;
  }
}

/** Gives what a run has left in the tensors of its taps in rows [first, first + rows) of theirs, as `into` wants it. */
export function readTaps(
  taps: readonly TapOutput[],
  tensors: ReadonlyMap<string, Tensor>,
  into: Residuals | TapRows,
  { first, rows }: RowRange,
): void {
  for (const { hook, output } of taps) {
    const tensor = tensors.get(output);
    if (tensor === undefined) continue;
    const width = tensor.shape.at(-1) ?? 1;
    if (into instanceof TapRows) into.set(hook, tensor.alias([rows, width], first * width));
    else into.set(hook, tensor.read(new Float32Array(rows * width), first * width));
  }
}

/**
 * A run's result, and what `read` makes of its taps: they come to the host, or stay where the run has left them where the
 * host cannot reach in.
 */
export function runTapped<Result, Read>(
  device: Device,
  run: (residuals: Residuals | TapRows) => Result,
  read: (residuals: Residuals | TapRows) => Read,
): { readonly result: Result; readonly read: Read } {
  if (device.isHost) {
    const residuals: Residuals = new Map();
    return { result: run(residuals), read: read(residuals) };
  }
  using rows = new TapRows();
  return { result: run(rows), read: read(rows) };
}
