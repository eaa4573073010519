import { readGgufHeader } from "../../../models/gguf/gguf-header.js";
import { openTensorData } from "../../../models/gguf/tensor-data.js";
import type { TensorInfo } from "../../../models/gguf/tensor-infos.js";
import type { Checkpoint } from "../../../models/weights/checkpoint.js";
import { goldenGguf } from "./golden-gguf.js";

/** types.gguf, a matrix [8, 512] of each block type and named after it, as weights; it is no model, so no reader of models opens it. */
export function openTypes(): Checkpoint {
  const path = goldenGguf("types.gguf");
  const header = readGgufHeader(path);
  const data = openTensorData(header);
  const find = (name: string): TensorInfo => {
    const info = header.tensors.get(name);
    if (info === undefined) throw new Error(`${path} has no ${name}`);
    return info;
  };
  const readF32Into = (name: string, start: number, out: Float32Array) => data.decode(name, find(name), start, out);
  const readF32 = (name: string, start = 0, count = find(name).shape.reduce((a, b) => a * b) - start) => {
    const out = new Float32Array(count);
    readF32Into(name, start, out);
    return out;
  };
  const readBlocks = (name: string, row: number, rows: number) => {
    const { type, shape } = find(name);
    const rowBytes = ((shape[1] ?? 0) / type.elements) * type.bytes;
    const out = new Uint8Array(rows * rowBytes);
    data.read(find(name), row * rowBytes, out);
    return out;
  };
  const close = () => data.close();
  return {
    folder: path,
    files: [path],
    names: () => header.tensors.keys(),
    has: (name) => header.tensors.has(name),
    shape: (name) => find(name).shape,
    file: () => path,
    dtype: (name) => find(name).type.name,
    readF32,
    readF32Into,
    readBlocks,
    expect: () => {},
    close,
    [Symbol.dispose]: close,
  };
}
