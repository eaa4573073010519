import { ModelFormatError } from "../../errors.js";
import { transposeRows } from "../../weights/transpose.js";
import type { Tensor } from "./sae-tensors.js";
import { BYTES, type NumberFormat, toF32 } from "./stored-numbers.js";
import { openZip } from "./zip-file.js";

const FORMATS: ReadonlyMap<string, NumberFormat> = new Map<string, NumberFormat>([
  ["<f8", "f64"],
  ["<f4", "f32"],
  ["<f2", "f16"],
  ["<i8", "i64"],
  ["<i4", "i32"],
]);

/**
 * The arrays of an .npz archive (numpy.savez and savez_compressed) as f32, row-major; names are without ".npy".
 * @throws ModelFormatError if it is not sound, or an array is not of little-endian numbers (arrays of Python objects).
 */
export async function readNpz(path: string): Promise<ReadonlyMap<string, Tensor>> {
  using zip = await openZip(path);
  const tensors = new Map<string, Tensor>();
  for (const member of zip.names) {
    const name = /^([^/]+)\.npy$/.exec(member)?.[1];
    if (name === undefined) throw new ModelFormatError(path, `member "${member}" is not an array`);
    tensors.set(
      name,
      parseNpy(await zip.read(member), (reason) => new ModelFormatError(path, `array "${name}" ${reason}`)),
    );
  }
  return tensors;
}

/** Format: numpy, lib/format.py "Format Version 1.0" to "3.0". */
function parseNpy(bytes: Uint8Array<ArrayBuffer>, refuse: (reason: string) => ModelFormatError): Tensor {
  const { header, dataOffset } = readHeader(bytes, refuse);
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const sizes = /'shape':\s*\(([\d\s,]*)\)/.exec(header)?.[1];
  if (descr === undefined || order === undefined || sizes === undefined)
    throw refuse(`has a header that is not known: ${header.slice(0, 80).trim()}`);
  if (/O/.test(descr)) throw refuse("holds pickled Python objects, not numbers");
  const format = FORMATS.get(descr);
  if (!format) throw refuse(`holds numbers of the type ${descr}, but must hold <f4, <f2, <f8, <i4 or <i8`);
  const shape = (sizes.match(/\d+/g) ?? []).map(Number);
  const elements = shape.reduce((product, size) => product * size, 1);
  const data = bytes.subarray(dataOffset);
  if (elements * BYTES[format] !== data.length)
    throw refuse(
      `has ${data.length} bytes of data, but shape [${shape}] of ${descr} takes ${elements * BYTES[format]}`,
    );
  const values = toF32(format, data);
  return { shape, values: order === "True" ? fromColumns(values, shape, refuse) : values };
}

function readHeader(bytes: Uint8Array<ArrayBuffer>, refuse: (reason: string) => ModelFormatError) {
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  const major = bytes[6] ?? 0;
  const start = major === 1 ? 10 : 12;
  if (bytes.length < start || magic.some((byte, i) => byte !== bytes[i]) || major < 1 || major > 3)
    throw refuse("is no .npy file");
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const dataOffset = start + (major === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  if (dataOffset > bytes.length) throw refuse("is cut off in its header");
  return { header: new TextDecoder().decode(bytes.subarray(start, dataOffset)), dataOffset };
}

/** Column order -> row order. */
function fromColumns(
  values: Float32Array,
  shape: readonly number[],
  refuse: (reason: string) => ModelFormatError,
): Float32Array {
  const [rows, columns, ...more] = shape;
  if (rows === undefined || columns === undefined) return values;
  if (more.length > 0) throw refuse(`is in column order and has ${shape.length} axes`);
  const out = new Float32Array(values.length);
  transposeRows(values, rows, out, columns, 0);
  return out;
}
