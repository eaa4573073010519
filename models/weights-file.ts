import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import type { Checkpoint } from "./checkpoint.js";
import { ModelFormatError } from "./errors.js";
import type { WeightPlace } from "./onnx/graph.js";
import { quantiseRows } from "./quantise.js";
import { transposeRows } from "./transpose.js";
import { partColumns, partRows, readPart } from "./weight-part.js";
import { BLOCK, type WeightPlan, type WeightSource } from "./weight-plan.js";

/** Rows of a matrix are read in pieces of about this many elements. */
const PIECE = 1 << 20;
/** Elements of a matrix that are transposed in memory at a time: it bounds what compiling takes, whatever the model. */
const PANEL = 1 << 22;
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
  for (const { parts } of plan.sources.values())
    for (const { tensor, shape } of parts) checkpoint.expect(tensor, shape);
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
  const panel = source.store === "transposed" ? columnWriter(fd, place) : undefined;
  const scales = source.scales === undefined ? undefined : placeOf(plan, source.scales);
  let row = 0;
  for (const part of source.parts) {
    const [all, columns] = [partRows(part), partColumns(part)];
    const step = Math.max(1, Math.floor(PIECE / columns));
    const buffer = new Float32Array(Math.min(step, all) * columns);
    for (let at = 0; at < all; at += step) {
      const rows = Math.min(step, all - at);
      const values = buffer.subarray(0, rows * columns);
      readPart(checkpoint, part, at, values);
      if (!allFinite(values)) broken.set(part.tensor, checkpoint.file(part.tensor));
      if (panel !== undefined) panel.add(values, rows);
      else if (scales === undefined) write(fd, values, place.offset + row * columns * 4);
      else {
        const blocks = scales.shape[1] ?? 0;
        const quantised = quantiseRows(values, rows, columns);
        write(fd, quantised.data, place.offset + row * blocks * BLOCK);
        write(fd, quantised.scales, scales.offset + row * blocks * 4);
      }
      row += rows;
    }
  }
  panel?.flush();
}

/** Takes the rows of a matrix one after the other and writes them as the columns of `place`, a panel at a time. */
function columnWriter(fd: number, { shape: [columns = 0, width = 0], offset }: WeightPlace) {
  const height = Math.min(width, Math.max(1, Math.floor(PANEL / columns)));
  const panel = new Float32Array(height * columns); // [columns, height]
  let [written, held] = [0, 0];
  const flush = (): void => {
    if (held === width) write(fd, panel, offset);
    else
      for (let column = 0; column < columns; column++)
        write(fd, panel.subarray(column * height, column * height + held), offset + (column * width + written) * 4);
    written += held;
    held = 0;
  };
  const add = (values: Float32Array, rows: number): void => {
    for (let done = 0; done < rows; ) {
      const taken = Math.min(rows - done, height - held);
      transposeRows(values.subarray(done * columns, (done + taken) * columns), columns, panel, height, held);
      done += taken;
      held += taken;
      if (held === height) flush();
    }
  };
  return { add, flush };
}

function placeOf(plan: WeightPlan, name: string): WeightPlace {
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
