import { closeSync, ftruncateSync, openSync } from "node:fs";
import { repackRows } from "../gguf/repack.js";
import type { WeightPlace } from "../onnx/graph.js";
import { type BlockFormat, codeBytes, type PackedRows } from "./block-format.js";
import type { Checkpoint } from "./checkpoint.js";
import { placeWriter, writeFully } from "./place-writer.js";
import { quantiseRows } from "./quantise.js";
import { quantiseRows4 } from "./quantise-4.js";
import { quantiseChannels } from "./quantise-channels.js";
import { transposeRows } from "./transpose.js";
import { UnfitWeights } from "./unfit-weights.js";
import { partColumns, partRows, readPart, storedRows } from "./weight-part.js";
import type { WeightPlan, WeightSource } from "./weight-plan.js";

/** Rows of a matrix are read in pieces of about this many elements. */
const PIECE = 1 << 20;
/** Elements of a matrix that are transposed in memory at a time: it bounds what compiling takes, whatever the model. */
const PANEL = 1 << 22;

/**
 * Writes the weights of a plan from a checkpoint, one tensor at a time.
 * @param onProgress called with the share written so far, 0 to 1
 * @throws ModelFormatError naming the tensor that is missing, has another shape, or holds NaN, infinite values, or values
 * that float16 has no room for where it is to be kept in it.
 */
export async function writeWeights(
  path: string,
  plan: WeightPlan,
  checkpoint: Checkpoint,
  onProgress: (share: number) => void,
): Promise<void> {
  for (const { parts } of plan.sources.values())
    for (const { tensor, shape } of parts) checkpoint.expect(tensor, shape);
  const unfit = new UnfitWeights();
  const fd = openSync(path, "wx");
  try {
    ftruncateSync(fd, plan.bytes);
    for (const [name, source] of plan.sources) {
      writeOne(fd, name, source, plan, checkpoint, unfit);
      const { offset, bytes } = placeOf(plan, source.blocks?.minima ?? source.blocks?.scales ?? source.scales ?? name);
      onProgress((offset + bytes) / plan.bytes);
      await new Promise(setImmediate);
    }
    onProgress(1);
  } finally {
    closeSync(fd);
  }
  unfit.refuse();
}

function writeOne(
  fd: number,
  name: string,
  source: WeightSource,
  plan: WeightPlan,
  checkpoint: Checkpoint,
  unfit: UnfitWeights,
): void {
  const sink = rowSink(fd, name, source, plan);
  const { type } = placeOf(plan, name);
  for (const part of source.parts) {
    const [all, columns] = [partRows(part), partColumns(part)];
    const step = Math.max(1, Math.floor(PIECE / columns));
    const held = source.blocks?.held ?? null;
    const buffer = new Float32Array(held === null ? Math.min(step, all) * columns : 0);
    for (let at = 0; at < all; at += step) {
      const rows = Math.min(step, all - at);
      if (held !== null) {
        for (const [first, count] of storedRows(part, at, rows))
          sink.packed(repackRows(held, checkpoint.readBlocks(part.tensor, first, count), count, columns), count);
        continue;
      }
      const values = buffer.subarray(0, rows * columns);
      readPart(checkpoint, part, at, values);
      unfit.look(values, type, part.tensor, checkpoint.file(part.tensor));
      sink.values(values, rows, columns);
    }
  }
  sink.flush();
}

/** Takes the rows of a source, one behind the other, to where the plan wants them. */
interface RowSink {
  values(values: Float32Array, rows: number, columns: number): void;
  /** Rows that are in the source's format already. */
  packed(rows: PackedRows, count: number): void;
  flush(): void;
}

function rowSink(fd: number, name: string, source: WeightSource, plan: WeightPlan): RowSink {
  const place = placeOf(plan, name);
  let row = 0;
  if (source.blocks !== undefined) {
    const { format, scales, minima } = source.blocks;
    const scalePlace = placeOf(plan, scales);
    const minimaPanel = minima === null ? null : columnWriter(fd, placeOf(plan, minima));
    const blocks = scalePlace.shape[1] ?? 0;
    const packed = (found: PackedRows, count: number): void => {
      writeFully(fd, found.codes, place.offset + row * blocks * codeBytes(format));
      writeFully(fd, found.scales, scalePlace.offset + row * blocks * 4);
      minimaPanel?.add(found.minima, count);
      row += count;
    };
    return {
      packed,
      values: (values, rows, columns) => packed(quantiseTo(format, values, rows, columns), rows),
      flush: () => minimaPanel?.flush(),
    };
  }
  const packed = () => {
    throw new RangeError(`${name} is not kept in blocks`);
  };
  if (source.store === "transposed") {
    const panel = columnWriter(fd, place);
    return { packed, values: (values, rows) => panel.add(values, rows), flush: () => panel.flush() };
  }
  if (source.scales !== undefined) {
    const scalePlace = placeOf(plan, source.scales);
    const panel = columnWriter(fd, place);
    return {
      packed,
      values: (values, rows, columns) => {
        const { codes, scales } = quantiseChannels(values, rows, columns);
        panel.add(codes, rows);
        writeFully(fd, scales, scalePlace.offset + 4 * row);
        row += rows;
      },
      flush: () => panel.flush(),
    };
  }
  const write = placeWriter(fd, place);
  const values = (found: Float32Array, rows: number, columns: number): void => {
    write(found, row * columns);
    row += rows;
  };
  return { packed, values, flush: () => {} };
}

function quantiseTo(format: BlockFormat, values: Float32Array, rows: number, columns: number): PackedRows {
  if (format.bits === 4) return quantiseRows4(values, rows, columns);
  const { data, scales } = quantiseRows(values, rows, columns, format.size);
  return { codes: data, scales, minima: new Float32Array(0) };
}

/** Takes the rows of a matrix one after the other and writes them as the columns of `place`, a panel at a time. */
function columnWriter(fd: number, place: WeightPlace) {
  const [columns = 0, width = 0] = place.shape;
  const write = placeWriter(fd, place);
  const height = Math.min(width, Math.max(1, Math.floor(PANEL / columns)));
  const panel = new Float32Array(height * columns); // [columns, height]
  let [written, held] = [0, 0];
  const flush = (): void => {
    if (held === width) write(panel, 0);
    else
      for (let column = 0; column < columns; column++)
        write(panel.subarray(column * height, column * height + held), column * width + written);
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
