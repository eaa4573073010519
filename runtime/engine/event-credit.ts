import type { SaeReading } from "../contract/features.js";
import type { GenerationEvent } from "../contract/generation.js";

/** Bytes of readings, or of log-probabilities, that count as one event. */
const EVENT_BYTES = 512;
/** Of a log-probability and its token. */
const LOGPROB_BYTES = 32;
/** Of a reading's name and scalars. */
const SCALAR_BYTES = 64;

/** How much of a reader's credit an event takes until it is read: 1, and more where it carries many features or log-probabilities. */
export function eventCredit(event: GenerationEvent): number {
  if (event.type === "prompt") {
    const count = event.logprobs.reduce((sum, entry) => sum + 1 + (entry?.top.length ?? 0), 0);
    return 1 + Math.floor((count * LOGPROB_BYTES) / EVENT_BYTES);
  }
  if (event.type === "features")
    return 1 + Math.floor(event.readings.reduce((sum, readings) => sum + bytesOf(readings), 0) / EVENT_BYTES);
  if (event.type === "token" && event.features !== null) return 1 + Math.floor(bytesOf(event.features) / EVENT_BYTES);
  return 1;
}

/** About what readings take on their way to the reader. */
export const bytesOf = (readings: readonly SaeReading[]): number =>
  readings.reduce((sum, { indices, values }) => sum + SCALAR_BYTES + indices.byteLength + values.byteLength, 0);
