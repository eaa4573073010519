import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { ModelFormatError } from "../errors.js";
import { repackRows } from "../gguf/repack.js";
import type { WeightPlace } from "../onnx/graph.js";
import { type BlockFormat, codeBytes, type PackedRows } from "./block-format.js";
import type { Checkpoint } from "./checkpoint.js";
import { narrowBF16, narrowF16 } from "./half-precision.js";
import { quantiseRows } from "./quantise.js";
import { quantiseRows4 } from "./quantise-4.js";
import { transposeRows } from "./transpose.js";
import { partColumns, partRows, readPart, storedRows } from "./weight-part.js";
import type { WeightPlan, WeightSource } from "./weight-plan.js";

/** Rows of a matrix are read in pieces of about this many elements. */
const PIECE = 1 << 20;
/** Elements of a matrix that are transposed in memory at a time: it bounds what compiling takes, whatever the model. */
const PANEL = 1 << 22;
/** Names of tensors with NaN or infinite values that an error lists. */
const LISTED = 8;

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
  const broken: Broken = { notFinite: new Map(), tooLarge: new Map() };
  const fd = openSync(path, "wx");
  try {
    ftruncateSync(fd, plan.bytes);
    for (const [name, source] of plan.sources) {
      writeOne(fd, name, source, plan, checkpoint, broken);
      const { offset, bytes } = placeOf(plan, source.blocks?.minima ?? source.blocks?.scales ?? name);
      onProgress((offset + bytes) / plan.bytes);
      await new Promise(setImmediate);
    }
    onProgress(1);
  } finally {
    closeSync(fd);
  }
  refuse(broken.notFinite, (names) => `NaN or infinite values in ${names}`);
  refuse(
    broken.tooLarge,
    (names) => `values beyond 65,504, the largest that f16 has, in ${names}: take --precision bf16 or f32`,
  );
}

/** Names of tensors that cannot be kept, and the file of each. */
interface Broken {
  readonly notFinite: Map<string, string>;
  readonly tooLarge: Map<string, string>;
}

function refuse(tensors: ReadonlyMap<string, string>, reason: (names: string) => string): void {
  const [first] = tensors.values();
  if (first === undefined) return;
  const names = [...tensors.keys()];
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : "";
  throw new ModelFormatError(first, reason(`${names.slice(0, LISTED).join(", ")}${more}`));
}

function writeOne(
  fd: number,
  name: string,
  source: WeightSource,
  plan: WeightPlan,
  checkpoint: Checkpoint,
  broken: Broken,
): void {
  const sink = rowSink(fd, name, source, plan);
  const inF16 = placeOf(plan, name).type === "float16";
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
      if (!allFinite(values)) broken.notFinite.set(part.tensor, checkpoint.file(part.tensor));
      else if (inF16 && !fitsF16(values)) broken.tooLarge.set(part.tensor, checkpoint.file(part.tensor));
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
      write(fd, found.codes, place.offset + row * blocks * codeBytes(format));
      write(fd, found.scales, scalePlace.offset + row * blocks * 4);
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
  const { typed, width } = numbersOf(place);
  const values = (found: Float32Array, rows: number, columns: number): void => {
    write(fd, typed(found), place.offset + row * columns * width);
    row += rows;
  };
  return { packed, values, flush: () => {} };
}

function quantiseTo(format: BlockFormat, values: Float32Array, rows: number, columns: number): PackedRows {
  if (format.bits === 4) return quantiseRows4(values, rows, columns);
  const { data, scales } = quantiseRows(values, rows, columns);
  return { codes: data, scales, minima: new Float32Array(0) };
}

/** Takes the rows of a matrix one after the other and writes them as the columns of `place`, a panel at a time. */
function columnWriter(fd: number, place: WeightPlace) {
  const {
    shape: [columns = 0, width = 0],
    offset,
  } = place;
  const { typed, width: bytes } = numbersOf(place);
  const height = Math.min(width, Math.max(1, Math.floor(PANEL / columns)));
  const panel = new Float32Array(height * columns); // [columns, height]
  let [written, held] = [0, 0];
  const flush = (): void => {
    const numbers = typed(panel);
    if (held === width) write(fd, numbers, offset);
    else
      for (let column = 0; column < columns; column++) {
        const rows = numbers.subarray(column * height, column * height + held);
        write(fd, rows, offset + (column * width + written) * bytes);
      }
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

/** How numbers are written into a place: rounded to its type, of so many bytes each. What `typed` gives is used up at once. */
function numbersOf({ type }: WeightPlace): {
  readonly typed: (values: Float32Array) => Float32Array | Uint16Array;
  readonly width: number;
} {
  if (type !== "float16" && type !== "bfloat16") return { typed: (values) => values, width: 4 };
  const narrow = type === "float16" ? narrowF16 : narrowBF16;
  let halves = new Uint16Array(0);
  const typed = (values: Float32Array): Uint16Array => {
    if (halves.length < values.length) halves = new Uint16Array(values.length);
    const rounded = halves.subarray(0, values.length);
    narrow(values, rounded);
    return rounded;
  };
  return { typed, width: 2 };
}

function placeOf(plan: WeightPlan, name: string): WeightPlace {
  const place = plan.places.get(name);
  if (place === undefined) throw new RangeError(`${name} has no place in the weights file`);
  return place;
}

function write(fd: number, values: Float32Array | Uint16Array | Uint8Array, offset: number): void {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}

/** Whether rounding to float16 makes infinity of none of these. */
function fitsF16(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (Math.abs(values[i]!) >= 65520) return false;
  return true;
}

function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}
