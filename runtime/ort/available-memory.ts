import { freemem, totalmem } from "node:os";

/** Below this, looking takes longer than the harm is worth. */
const WORTH_A_LOOK = 64 << 20;

/**
 * Whether the machine has memory for `bytes` more. Linux promises more than it has, and kills the process that takes it at
 * its word; elsewhere "free" leaves out what the system would give up, so that only the impossible is refused.
 */
export function roomFor(bytes: number): boolean {
  if (bytes < WORTH_A_LOOK) return true;
  const available = process.platform === "linux" ? (process.availableMemory?.() ?? freemem()) : totalmem();
  return bytes <= available;
}
