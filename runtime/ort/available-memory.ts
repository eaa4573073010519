import { freemem, totalmem } from "node:os";
import { OrtError } from "./library.js";

/** ONNX Runtime's code for an allocation that failed (ORT_RUNTIME_EXCEPTION). */
const NO_MEMORY = 6;

/** Below this, looking takes longer than the harm is worth. */
const WORTH_A_LOOK = 64 << 20;

/**
 * Whether the machine has memory for `bytes` more. Linux promises more than it has, and kills the process that takes it at
 * its word; elsewhere "free" leaves out what the system would give up, so that only the impossible is refused.
 * @param whole bytes of what the new ones are part of: small steps of something large are looked at too
 */
export function roomFor(bytes: number, whole = bytes): boolean {
  if (whole < WORTH_A_LOOK) return true;
  const available = process.platform === "linux" ? (process.availableMemory?.() ?? freemem()) : totalmem();
  return bytes <= available;
}

/** @throws OrtError, as where an allocation fails, when the machine has no memory for `bytes` more. */
export function checkRoom(bytes: number, about: string, whole = bytes): void {
  if (!roomFor(bytes, whole)) throw new OrtError(NO_MEMORY, `${about}: the machine has no ${bytes} bytes left`);
}
