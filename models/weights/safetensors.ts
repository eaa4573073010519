import { closeSync } from "node:fs";
import { ModelFormatError } from "../errors.js";
import { openModelFile, readFully } from "../model-file.js";
import { halfPrecisionBytes, widenBF16, widenF16 } from "./half-precision.js";
import { readSafetensorsHeader, type TensorEntry } from "./safetensors-header.js";

/** Elements of an F64 tensor that are narrowed at a time. */
const F64_PIECE = 2 ** 16;

const bytesOf = (array: Float32Array | Float64Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** How the elements [start, start + out.length) of a tensor become f32; `read` fills bytes from a byte of the tensor on. */
type F32Reader = (out: Float32Array, start: number, read: (bytes: Uint8Array, from: number) => void) => void;

const READERS: ReadonlyMap<string, F32Reader> = new Map<string, F32Reader>([
  ["F32", (out, start, read) => read(bytesOf(out), 4 * start)],
  [
    "F16",
    (out, start, read) => {
      read(halfPrecisionBytes(out), 2 * start);
      widenF16(out);
    },
  ],
  [
    "BF16",
    (out, start, read) => {
      read(halfPrecisionBytes(out), 2 * start);
      widenBF16(out);
    },
  ],
  [
    "F64",
    (out, start, read) => {
      const piece = new Float64Array(Math.min(F64_PIECE, out.length));
      for (let done = 0; done < out.length; done += piece.length) {
        const wanted = piece.subarray(0, out.length - done);
        read(bytesOf(wanted), 8 * (start + done));
        out.set(wanted, done);
      }
    },
  ],
]);

/** Whether `readF32` reads tensors of this dtype. */
export const isFloatDtype = (dtype: string): boolean => READERS.has(dtype);

/** An open safetensors file; its owner closes it. */
export interface SafetensorsFile extends Disposable {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /**
   * Elements [start, start + count) of a tensor in row-major order as f32 (from F32, F16, BF16 or F64), read from the
   * disk now; a large tensor is read in pieces. Takes no memory beyond the result.
   * @throws ModelFormatError if there is no such tensor, its dtype is not one of the four, or the file became shorter.
   * @throws RangeError if the range is not within the tensor.
   */
  readF32(name: string, start?: number, count?: number): Float32Array<ArrayBuffer>;
  /** The same for as many elements as `out` has, into `out`: whoever reads piece by piece needs one buffer only. */
  readF32Into(name: string, start: number, out: Float32Array): void;
  close(): void;
}

/**
 * Opens a safetensors file, synchronously, and checks its header completely before anything in it is trusted.
 * @throws ModelFormatError saying what is wrong, naming the tensor.
 */
export function openSafetensors(path: string): SafetensorsFile {
  const { fd, size } = openModelFile(path);
  let open = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  try {
    const tensors = readSafetensorsHeader(fd, size, path);
    const find = (name: string) => floatTensor(path, name, tensors.get(name));
    const readF32Into = (name: string, start: number, out: Float32Array) => {
      const { entry, reader } = find(name);
      checkRange(name, entry, start, out.length);
      if (!open) throw new RangeError(`${path} is closed`);
      reader(out, start, (bytes, from) => readFully(fd, path, bytes, entry.byteOffset + from));
    };
    const readF32 = (name: string, start = 0, count = elementsOf(find(name).entry) - start) => {
      checkRange(name, find(name).entry, start, count);
      const out = new Float32Array(count);
      readF32Into(name, start, out);
      return out;
    };
    return { path, tensors, readF32, readF32Into, close, [Symbol.dispose]: close };
  } catch (error) {
    close();
    throw error;
  }
}

const elementsOf = ({ shape }: TensorEntry): number => shape.reduce((product, dimension) => product * dimension, 1);

function floatTensor(path: string, name: string, entry: TensorEntry | undefined) {
  if (!entry) throw new ModelFormatError(path, `tensor "${name}" is missing`);
  const reader = READERS.get(entry.dtype);
  if (reader) return { entry, reader };
  throw new ModelFormatError(path, `tensor "${name}" has dtype ${entry.dtype}, but weights must be F32, F16 or BF16`);
}

function checkRange(name: string, entry: TensorEntry, start: number, count: number): void {
  const elements = elementsOf(entry);
  const natural = [start, count].every((value) => Number.isSafeInteger(value) && value >= 0);
  if (!natural || start + count > elements)
    throw new RangeError(`elements [${start}, ${start + count}) of "${name}", which has ${elements}`);
}
