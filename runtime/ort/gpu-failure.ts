import { CudaError, OUT_OF_MEMORY } from "./cuda-runtime.js";
import type { Device } from "./device.js";
import { OrtError } from "./library.js";

/** What of a GPU failed, and a sentence that says what to do. */
export interface GpuFailure {
  readonly kind: "out_of_memory" | "device_lost";
  readonly message: string;
}

/**
 * Errors of the CUDA runtime after which every call of this process fails: no device, memory that broke, kernels that
 * did (driver_types.h).
 */
const LOST = new Set([46, 100, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999]);
/** The same by name, as ONNX Runtime reports what a kernel has left. */
const LOST_NAMES =
  /cudaError(DevicesUnavailable|NoDevice|ECCUncorrectable|Contained|TensorMemoryLeak|IllegalAddress|LaunchTimeout|ContextIsDestroyed|Assert|HardwareStackError|IllegalInstruction|MisalignedAddress|InvalidAddressSpace|InvalidPc|LaunchFailure|Unknown)\b/;

/** What an error on a device says of the GPU; null where it says nothing of it. */
export function gpuFailure(error: unknown, device: Device): GpuFailure | null {
  if (device.isHost || !(error instanceof CudaError || error instanceof OrtError)) return null;
  const { message } = error;
  const code = error instanceof CudaError ? error.code : Number(/CUDA failure (\d+)/.exec(message)?.[1]);
  if (LOST.has(code) || LOST_NAMES.test(message))
    return { kind: "device_lost", message: `The GPU was lost (${oneLine(message)}); start the server again` };
  if (code === OUT_OF_MEMORY || /CUBLAS_STATUS_ALLOC_FAILED|BFCArena|cudaErrorMemoryAllocation/.test(message)) {
    const remedy =
      "free some, or choose a smaller --window, --parallel or --precision, or another GPU (--device cuda:<n>)";
    return { kind: "out_of_memory", message: `The GPU is out of memory (${oneLine(message)}); ${remedy}` };
  }
  return error instanceof OrtError ? leftBehind(device) : null;
}

/** Libraries on top of CUDA report a lost GPU in words of their own: then the next wait fails, too. */
function leftBehind(device: Device): GpuFailure | null {
  try {
    device.wait();
    return null;
  } catch (error) {
    return error instanceof CudaError ? gpuFailure(error, device) : null;
  }
}

/** ONNX Runtime's own texts name their source files at length. */
function oneLine(message: string): string {
  const line = message.replaceAll(/\s+/g, " ").trim();
  return line.length <= LONGEST ? line : `${line.slice(0, LONGEST)}…`;
}

const LONGEST = 300;
