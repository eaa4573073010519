import type { TapOutput } from "../../models/graph-interface.js";
import type { HookName } from "../../models/hooks.js";
import type { Device } from "../ort/device.js";
import type { Tensor } from "../ort/tensor.js";
import type { GraphTensors } from "./graph-tensors.js";
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

/** Gives what a run has left in the tensors of its taps in rows [first, first + rows) of theirs, as `into` wants it. */
export function readTaps(
  taps: readonly TapOutput[],
  tensors: GraphTensors,
  into: Residuals | TapRows,
  { first, rows }: RowRange,
): void {
  for (const { hook, output } of taps) {
    const tensor = tensors.output(output);
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
