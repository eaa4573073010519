import { dirname } from "node:path";
import { ModelFormatError } from "../errors.js";
import type { Checkpoint } from "../weights/checkpoint.js";
import { finiteBlocks } from "./decoders.js";
import type { GgufFiles } from "./gguf-files.js";
import { ggufSizes } from "./gguf-sizes.js";
import { type StoredWeight, storedWeights } from "./stored-weights.js";
import { decoderOf, openTensorData, type TensorData } from "./tensor-data.js";
import { ggufName } from "./tensor-names.js";

/**
 * The weights of a GGUF model under the names, in the shapes and in the row order of transformers. Reading one that holds
 * NaN or infinite values is an error. Errors name tensors as the file does.
 * @throws ModelFormatError as `storedWeights`, or where a file has changed since its header was read.
 */
export function openGgufCheckpoint(model: GgufFiles): Checkpoint {
  const sizes = ggufSizes(model.fields);
  const weights = storedWeights(model, sizes);
  const open = new Map<string, TensorData>();
  let closed = false;
  const find = (name: string): StoredWeight => {
    const found = weights.get(name);
    if (found) return found;
    throw new ModelFormatError(model.fields.file, `tensor "${ggufName(sizes, name) ?? name}" is missing`);
  };
  const dataOf = ({ file }: StoredWeight): TensorData => {
    if (closed) throw new RangeError(`${file.path} is closed`);
    const data = open.get(file.path) ?? openTensorData(file);
    open.set(file.path, data);
    return data;
  };
  const readF32Into = (name: string, start: number, out: Float32Array) => {
    const weight = find(name);
    checkRange(name, weight, start, out.length);
    weight.decode(dataOf(weight), start, out);
    if (!allFinite(out)) throw notFinite(weight);
  };
  const readF32 = (name: string, start = 0, count = elementsOf(find(name)) - start) => {
    checkRange(name, find(name), start, count);
    const out = new Float32Array(count);
    readF32Into(name, start, out);
    return out;
  };
  const readBlocks = (name: string, row: number, rows: number) => {
    const weight = find(name);
    const { elements, bytes } = weight.type;
    const [height = 0, width] = weight.shape;
    if (width === undefined || weight.shape.length !== 2 || elements === 1)
      throw new RangeError(`tensor "${name}" is ${weight.type.name} [${weight.shape}], no matrix of blocks`);
    if (!(Number.isSafeInteger(row) && Number.isSafeInteger(rows) && row >= 0 && rows >= 0 && row + rows <= height))
      throw new RangeError(`rows [${row}, ${row + rows}) of "${name}", which has ${height}`);
    const decoder = decoderOf(weight.file.path, weight.name, weight);
    const stored = new Uint8Array(((rows * width) / elements) * bytes);
    weight.readRows(dataOf(weight), row, stored);
    if (!finiteBlocks(decoder, bytes, stored)) throw notFinite(weight);
    return stored;
  };
  const close = () => {
    closed = true;
    for (const data of open.values()) data.close();
  };
  return {
    folder: dirname(model.fields.file),
    files: model.files.map((file) => file.path),
    names: () => weights.keys(),
    has: (name) => weights.has(name),
    shape: (name) => find(name).shape,
    file: (name) => find(name).file.path,
    dtype: (name) => find(name).type.name,
    readF32,
    readF32Into,
    readBlocks,
    expect: (name, shape) => {
      const weight = find(name);
      if (weight.shape.length !== shape.length || weight.shape.some((dimension, axis) => dimension !== shape[axis]))
        throw new ModelFormatError(
          weight.file.path,
          `tensor "${weight.name}" has shape [${weight.shape.join(", ")}], but the metadata makes it [${shape.join(", ")}]`,
        );
      decoderOf(weight.file.path, weight.name, weight);
    },
    close,
    [Symbol.dispose]: close,
  };
}

const elementsOf = ({ shape }: StoredWeight): number => shape.reduce((product, dimension) => product * dimension, 1);

function checkRange(name: string, weight: StoredWeight, start: number, count: number): void {
  const elements = elementsOf(weight);
  const natural = [start, count].every((value) => Number.isSafeInteger(value) && value >= 0);
  if (!natural || start + count > elements)
    throw new RangeError(`elements [${start}, ${start + count}) of "${name}", which has ${elements}`);
}

function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}

const notFinite = ({ file, name }: StoredWeight): ModelFormatError =>
  new ModelFormatError(file.path, `NaN or infinite values in ${name}`);
