import type { CompiledModel } from "../../models/compile.js";
import { type KvChoice, kvProblem, resolveKv } from "../../models/keys-values/kv-choice.js";
import { isQuantised, type KvFormat } from "../../models/keys-values/kv-format.js";
import type { DeviceKind } from "../../models/onnx/graph.js";
import { openKvRanges } from "../calibration/open-kv-ranges.js";
import { SetupError } from "../contract/errors.js";

export interface KvOptions {
  readonly asked: KvChoice;
  readonly device: DeviceKind;
  /** Ids of the calibration text; null: the model has no tokenizer for it. */
  readonly ids: ArrayLike<number> | null;
  readonly threads: number;
  readonly spin: boolean;
  /** Is given a line for the log. */
  readonly onNotice: (line: string) => void;
}

/** @throws SetupError where a model cannot keep keys and values as asked. */
export function checkKv(
  { precision, shape: { headDim } }: Pick<CompiledModel, "precision" | "shape">,
  { asked, device }: Pick<KvOptions, "asked" | "device">,
): void {
  const problem = kvProblem(asked, { precision, device, headDim });
  if (problem !== null) throw new SetupError(`${problem}.`);
}

/**
 * How a model keeps keys and values as integers, null where it does not. Their ranges are measured where they are not known.
 * @throws SetupError as `openKvRanges`.
 */
export function openKv(model: CompiledModel, { asked, device, onNotice, ...options }: KvOptions): KvFormat | null {
  const type = resolveKv(asked, { precision: model.precision, device, headDim: model.shape.headDim });
  if (!isQuantised(type)) return null;
  const text = options.ids === null ? "ids drawn at random (there is no tokenizer for a text)" : "the calibration text";
  const onMeasured = (seconds: number) =>
    onNotice(`Measured how large keys and values get in ${text}: ${seconds.toFixed(1)} s.`);
  return { bits: type === "q8" ? 8 : 4, ranges: openKvRanges(model, { ...options, onMeasured }) };
}
