import { CudaError } from "./cuda-runtime.js";
import { OrtError } from "./library.js";

/** What of a GPU failed, and a sentence that says what to do. */
export interface GpuFailure {
  readonly kind: "out_of_memory" | "device_lost";
  readonly message: string;
}

const OUT_OF_MEMORY = 2;
/**
 * Errors of the CUDA runtime after which every call of this process fails: no device, memory that broke, kernels that
 * did (driver_types.h).
 */
const LOST = new Set([46, 100, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 999]);

/** What an error says of the GPU; null where it says nothing of it. */
export function gpuFailure(error: unknown): GpuFailure | null {
  if (!(error instanceof CudaError || error instanceof OrtError)) return null;
  const { message } = error;
  const code = error instanceof CudaError ? error.code : Number(/CUDA failure (\d+)/.exec(message)?.[1]);
  if (LOST.has(code))
    return { kind: "device_lost", message: `The GPU was lost (${oneLine(message)}); restart the server` };
  const full = code === OUT_OF_MEMORY || /CUBLAS_STATUS_ALLOC_FAILED|BFCArena/.test(message);
  if (!full) return null;
  const remedy =
    "free some, or choose a smaller --window, --parallel or --precision, or another GPU (--device cuda:<n>)";
  return { kind: "out_of_memory", message: `The GPU is out of memory (${oneLine(message)}); ${remedy}` };
}

/** ONNX Runtime's own texts name their source files at length. */
function oneLine(message: string): string {
  const line = message.replaceAll(/\s+/g, " ").trim();
  return line.length <= LONGEST ? line : `${line.slice(0, LONGEST)}…`;
}

const LONGEST = 300;
