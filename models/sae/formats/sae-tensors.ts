import { ModelFormatError } from "../../errors.js";
import { openSafetensors } from "../../weights/safetensors.js";
import { transposeRows } from "../../weights/transpose.js";

/** `values` in row-major order; shape [] is a single number. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/**
 * All tensors of a safetensors file.
 * @throws ModelFormatError if the file is not sound or a tensor is not of a float dtype.
 */
export function readSafetensors(path: string): ReadonlyMap<string, Tensor> {
  using file = openSafetensors(path);
  return new Map([...file.tensors].map(([name, { shape }]) => [name, { shape, values: file.readF32(name) }]));
}

/** The tensors of one file on their way into a description. Every one must be asked for: what is left is not understood. */
export interface TensorClaims {
  has(name: string): boolean;
  /** @throws ModelFormatError if it is absent. */
  shape(name: string): readonly number[];
  /** A tensor of exactly this shape. @throws ModelFormatError if it is absent, has another shape, or holds NaN or infinities. */
  take(name: string, ...shape: number[]): Float32Array;
  /** A matrix that is stored as [columns, rows], turned into [rows, columns]. */
  takeTransposed(name: string, rows: number, columns: number): Float32Array;
  /** As `take`, null where it is absent. */
  takeIfThere(name: string, ...shape: number[]): Float32Array | null;
  /** The one element of a tensor, of shape [] or [1]. */
  number(name: string): number;
  /** A whole number within limits, of shape [] or [1]. */
  whole(name: string, min: number, max: number): number;
  /** A tensor that has no part in encoding or decoding. */
  drop(name: string): void;
  /** @throws ModelFormatError naming the tensors that nobody asked for. */
  nothingLeft(): void;
}

export function claim(file: string, tensors: ReadonlyMap<string, Tensor>): TensorClaims {
  const left = new Map(tensors);
  const find = (name: string): Tensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw new ModelFormatError(file, `tensor "${name}" is missing`);
    left.delete(name);
    return tensor;
  };
  const take = (name: string, ...shape: number[]): Float32Array => {
    const tensor = find(name);
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis]))
      throw new ModelFormatError(file, `tensor "${name}" has shape [${tensor.shape}], but it must be [${shape}]`);
    if (!tensor.values.every(Number.isFinite))
      throw new ModelFormatError(file, `tensor "${name}" holds values that are not finite numbers`);
    return tensor.values;
  };
  const number = (name: string): number => {
    const [value, ...more] = find(name).values;
    if (value !== undefined && more.length === 0 && Number.isFinite(value)) return value;
    throw new ModelFormatError(file, `tensor "${name}" must be a single finite number`);
  };
  return {
    has: (name) => tensors.has(name),
    shape: (name) => find(name).shape,
    take,
    takeTransposed(name, rows, columns) {
      const out = new Float32Array(rows * columns);
      transposeRows(take(name, columns, rows), rows, out, columns, 0);
      return out;
    },
    takeIfThere: (name, ...shape) => (tensors.has(name) ? take(name, ...shape) : null),
    number,
    whole(name, min, max) {
      const value = number(name);
      if (Number.isInteger(value) && value >= min && value <= max) return value;
      throw new ModelFormatError(
        file,
        `tensor "${name}" is ${value}, but must be a whole number from ${min} to ${max}`,
      );
    },
    drop: (name) => void left.delete(name),
    nothingLeft() {
      if (left.size === 0) return;
      const names = [...left.keys()].slice(0, 8).map((name) => `"${name}"`);
      throw new ModelFormatError(file, `it is not known what these tensors do here: ${names.join(", ")}`);
    },
  };
}
