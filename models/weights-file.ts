import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import type { Checkpoint } from "./checkpoint.js";
import { ModelFormatError } from "./errors.js";
import { quantiseRows } from "./quantise.js";
import type { WeightPlan, WeightSource } from "./weight-plan.js";

/** Rows of a matrix are read in pieces of about this many elements. */
const PIECE = 1 << 20;
/** Rows that are transposed together, so that reads and writes both stay within the processor's caches. */
const TILE = 32;
/** Names of tensors with NaN or infinite values that an error lists. */
const LISTED = 8;

/**
 * Writes the weights of a plan from a checkpoint, one tensor at a time.
 * @param onProgress called with the share written so far, 0 to 1
 * @throws ModelFormatError naming the tensor that is missing, has another shape, or holds NaN or infinite values.
 */
export async function writeWeights(
  path: string,
  plan: WeightPlan,
  checkpoint: Checkpoint,
  onProgress: (share: number) => void,
): Promise<void> {
  for (const { parts } of plan.sources.values()) for (const { tensor, shape } of parts) checkpoint.expect(tensor, shape);
  const broken = new Map<string, string>();
  const fd = openSync(path, "wx");
  try {
    ftruncateSync(fd, plan.bytes);
    for (const [name, source] of plan.sources) {
      writeOne(fd, name, source, plan, checkpoint, broken);
      const { offset, bytes } = placeOf(plan, source.scales ?? name);
      onProgress((offset + bytes) / plan.bytes);
      await new Promise(setImmediate);
    }
    onProgress(1);
  } finally {
    closeSync(fd);
  }
  const [first] = broken.values();
  if (first !== undefined) {
    const names = [...broken.keys()];
    const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : "";
    throw new ModelFormatError(first, `NaN or infinite values in ${names.slice(0, LISTED).join(", ")}${more}`);
  }
}

function writeOne(
  fd: number,
  name: string,
  source: WeightSource,
  plan: WeightPlan,
  checkpoint: Checkpoint,
  broken: Map<string, string>,
): void {
  const place = placeOf(plan, name);
  const total = source.parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  const whole = source.store === "transposed" ? new Float32Array(place.bytes / 4) : undefined;
  const scales = source.scales === undefined ? undefined : placeOf(plan, source.scales);
  let row = 0;
  for (const { tensor, shape } of source.parts) {
    const columns = shape[1] ?? 1;
    const step = Math.max(TILE, Math.floor(PIECE / columns));
    const buffer = new Float32Array(Math.min(step, shape[0] ?? 0) * columns);
    for (let at = 0; at < (shape[0] ?? 0); at += step) {
      const rows = Math.min(step, (shape[0] ?? 0) - at);
      const values = buffer.subarray(0, rows * columns);
      checkpoint.readF32Into(tensor, at * columns, values);
      if (!allFinite(values)) broken.set(tensor, checkpoint.file(tensor));
      if (whole !== undefined) transposeInto(whole, total, row, values, rows, columns);
      else if (scales === undefined) write(fd, values, place.offset + row * columns * 4);
      else {
        const blocks = scales.shape[1] ?? 0;
        const quantised = quantiseRows(values, rows, columns);
        write(fd, quantised.data, place.offset + row * blocks * 32);
        write(fd, quantised.scales, scales.offset + row * blocks * 4);
      }
      row += rows;
    }
  }
  if (whole !== undefined) write(fd, whole, place.offset);
}

function placeOf(plan: WeightPlan, name: string) {
  const place = plan.places.get(name);
  if (place === undefined) throw new RangeError(`${name} has no place in the weights file`);
  return place;
}

function write(fd: number, values: Float32Array | Uint8Array, offset: number): void {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}

function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}

/** Rows [row, row + rows) of a matrix become columns of `target`, which has `width` columns. */
function transposeInto(target: Float32Array, width: number, row: number, values: Float32Array, rows: number, columns: number): void {
  for (let r0 = 0; r0 < rows; r0 += TILE) {
    const r1 = Math.min(r0 + TILE, rows);
    for (let column = 0; column < columns; column++) {
      const base = column * width + row;
      for (let r = r0; r < r1; r++) target[base + r] = values[r * columns + column] ?? 0;
    }
  }
}
