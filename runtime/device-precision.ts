import type { DeviceKind, Precision } from "../models/weights/block-format.js";
import { SetupError } from "./errors.js";

/** @throws SetupError where ONNX Runtime has no kernels for a precision on a device. */
export function checkPrecision(precision: Precision | "auto", device: DeviceKind): void {
  if (precision === "bf16" && device === "cpu")
    throw new SetupError("bf16 runs on a GPU only: add --device cuda, or take --precision f32 or f16");
}
