import { ModelFormatError } from "../errors.js";
import type { GgufFiles } from "./gguf-files.js";
import type { GgufHeader } from "./gguf-header.js";
import type { GgufSizes } from "./gguf-sizes.js";
import type { TensorData } from "./tensor-data.js";
import { type NamedTensor, nameTensors } from "./tensor-names.js";
import { FLOAT32, type TensorType } from "./tensor-types.js";

/** A weight and how its rows come in Hugging Face's order. */
export interface StoredWeight {
  /** GGUF's. */
  readonly name: string;
  readonly file: GgufHeader;
  readonly type: TensorType;
  /** Row-major. */
  readonly shape: readonly number[];
  /** Elements [start, start + out.length). */
  decode(data: TensorData, start: number, out: Float32Array): void;
  /** Stored bytes of the rows of a matrix from `row` on, as many as `out` holds. */
  readRows(data: TensorData, row: number, out: Uint8Array): void;
}

/**
 * All weights of a model by Hugging Face's names; biases that some projections have and others do not are zeros.
 * @throws ModelFormatError naming a tensor that the model does not have, or whose rows are not those of its heads.
 */
export function storedWeights(model: GgufFiles, sizes: GgufSizes): ReadonlyMap<string, StoredWeight> {
  const named = nameTensors(model, sizes);
  const weights = new Map<string, StoredWeight>();
  for (const [name, tensor] of named) weights.set(name, inOrder(tensor, sizes));
  for (const stems of Object.values(sizes.architecture.biases)) {
    const biased = [...named.values()].some((tensor) => stems.some((stem) => tensor.pattern === `${stem}.bias`));
    if (!biased) continue;
    for (const [name, tensor] of named) {
      const bias = name.replace(/\.weight$/, ".bias");
      if (stems.some((stem) => tensor.pattern === `${stem}.weight`) && !named.has(bias))
        weights.set(bias, zeros(tensor));
    }
  }
  return weights;
}

function inOrder(tensor: NamedTensor, { architecture, ...sizes }: GgufSizes): StoredWeight {
  const heads = architecture.interleaved.get(tensor.pattern.replace(/\.(weight|bias)$/, ""));
  return heads === undefined ? asStored(tensor) : interleaved(tensor, sizes[heads], sizes.headDim);
}

const asStored = ({ name, file, info }: NamedTensor): StoredWeight => ({
  name,
  file,
  type: info.type,
  shape: info.shape,
  decode: (data, start, out) => data.decode(name, info, start, out),
  readRows: (data, row, out) => data.read(info, row * rowBytes(info), out),
});

/** Row i of a head is stored as its row 2i, row d/2 + i as its row 2i + 1. A vector has rows of one element. */
function interleaved({ name, file, info }: NamedTensor, heads: number, headDim: number): StoredWeight {
  const [rows = 0, columns = 1] = info.shape;
  if (rows !== heads * headDim || info.shape.length > 2)
    throw new ModelFormatError(
      file.path,
      `tensor "${name}" has shape [${info.shape.join(", ")}], but ${heads} heads of ${headDim} make ${heads * headDim} rows`,
    );
  if (info.shape.length === 1 && info.type.elements > 1)
    throw new ModelFormatError(file.path, `tensor "${name}" is a vector of type ${info.type.name}, which has blocks`);
  const storedRow = (row: number) => {
    const within = row % headDim;
    return row - within + (within < headDim / 2 ? 2 * within : 2 * within - headDim + 1);
  };
  return {
    name,
    file,
    type: info.type,
    shape: info.shape,
    decode: (data, start, out) => {
      for (let done = 0; done < out.length; ) {
        const row = Math.floor((start + done) / columns);
        const column = start + done - row * columns;
        const count = Math.min(columns - column, out.length - done);
        data.decode(name, info, storedRow(row) * columns + column, out.subarray(done, done + count));
        done += count;
      }
    },
    readRows: (data, row, out) => {
      const bytes = rowBytes(info);
      for (let done = 0; done < out.length; done += bytes)
        data.read(info, storedRow(row + done / bytes) * bytes, out.subarray(done, done + bytes));
    },
  };
}

/** A bias of the same projection. */
const zeros = ({ name, file, info }: NamedTensor): StoredWeight => ({
  name: name.replace(/\.weight$/, ".bias"),
  file,
  type: FLOAT32,
  shape: info.shape.slice(0, 1),
  decode: (_, __, out) => out.fill(0),
  readRows: (_, __, out) => out.fill(0),
});

const rowBytes = ({ shape: [, columns = 1], type }: NamedTensor["info"]): number =>
  (columns / type.elements) * type.bytes;
