import type { SaeReading } from "./features.js";
import type { GenerationEvent } from "./generation.js";

/** Bytes of readings that count as one event. */
const READING_BYTES = 512;
/** Of a reading's name and scalars. */
const SCALAR_BYTES = 64;

/** How much of a reader's credit an event takes until it is read: 1, and more where it carries many features. */
export function eventCredit(event: GenerationEvent): number {
  if (event.type === "features")
    return 1 + Math.floor(event.readings.reduce((sum, readings) => sum + bytesOf(readings), 0) / READING_BYTES);
  if (event.type === "token" && event.features !== null) return 1 + Math.floor(bytesOf(event.features) / READING_BYTES);
  return 1;
}

/** About what readings take on their way to the reader. */
export const bytesOf = (readings: readonly SaeReading[]): number =>
  readings.reduce((sum, { indices, values }) => sum + SCALAR_BYTES + indices.byteLength + values.byteLength, 0);
