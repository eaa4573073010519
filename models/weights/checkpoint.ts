import { existsSync, statSync } from "node:fs";
import { join, posix, win32 } from "node:path";
import { ModelFormatError } from "../errors.js";
import { isJsonObject, readJsonObject } from "../model-file.js";
import { isFloatDtype, openSafetensors, type SafetensorsFile } from "./safetensors.js";

/** The weights of a folder in Hugging Face layout, however many files they lie in; its owner closes it. */
export interface Checkpoint extends Disposable {
  readonly folder: string;
  /** Paths of the files that hold the weights, the index included. */
  readonly files: readonly string[];
  names(): IterableIterator<string>;
  has(name: string): boolean;
  /** Row-major. @throws ModelFormatError if there is no such tensor. */
  shape(name: string): readonly number[];
  /** Path of the file that holds the tensor. @throws ModelFormatError if there is no such tensor. */
  file(name: string): string;
  /** How its elements are stored: F32, F16, BF16, or a block type of GGUF (Q8_0, Q4_K, ...). */
  dtype(name: string): string;
  /** As `SafetensorsFile.readF32`. */
  readF32(name: string, start?: number, count?: number): Float32Array<ArrayBuffer>;
  /** As `SafetensorsFile.readF32Into`. */
  readF32Into(name: string, start: number, out: Float32Array): void;
  /**
   * Stored bytes of rows [row, row + rows) of a matrix, of a block type: whole blocks, each row's behind the other.
   * @throws RangeError if it is stored in another way.
   */
  readBlocks(name: string, row: number, rows: number): Uint8Array;
  /** @throws ModelFormatError if the tensor is missing, has another shape, or does not hold floating-point numbers. */
  expect(name: string, shape: readonly number[]): void;
  close(): void;
}

/**
 * Opens model.safetensors, or else the shards that model.safetensors.index.json names; checks every header.
 * @throws ModelFormatError naming the file, and the tensor or shard where it is about one. Pickles are never opened.
 */
export function openCheckpoint(folder: string): Checkpoint {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new ModelFormatError(folder, "there is no such folder");
  const single = join(folder, "model.safetensors");
  const index = join(folder, "model.safetensors.index.json");
  if (existsSync(single)) {
    const file = openSafetensors(single);
    return checkpoint(folder, single, [single], new Map([...file.tensors.keys()].map((name) => [name, file])));
  }
  if (existsSync(index)) return openShards(folder, index);
  const pickle = ["pytorch_model.bin", "pytorch_model.bin.index.json"].find((name) => existsSync(join(folder, name)));
  if (pickle)
    throw new ModelFormatError(
      join(folder, pickle),
      "pickled weights are not opened, because opening one runs code from it; convert them to model.safetensors",
    );
  throw new ModelFormatError(single, "there is no such file, nor a model.safetensors.index.json");
}

function openShards(folder: string, index: string): Checkpoint {
  const { weight_map } = readJsonObject(index);
  if (!isJsonObject(weight_map)) throw new ModelFormatError(index, "there is no weight_map in it");
  const shards = new Map<unknown, SafetensorsFile>();
  const tensors = new Map<string, SafetensorsFile>();
  try {
    for (const [name, shard] of Object.entries(weight_map)) {
      const file = shards.get(shard) ?? openShard(folder, index, name, shard);
      shards.set(shard, file);
      if (!file.tensors.has(name))
        throw new ModelFormatError(index, `it says that tensor "${name}" is in ${shard}, but it is not`);
      tensors.set(name, file);
    }
  } catch (error) {
    for (const file of shards.values()) file.close();
    throw error;
  }
  return checkpoint(folder, index, [index, ...[...shards.values()].map((file) => file.path)], tensors);
}

function openShard(folder: string, index: string, name: string, shard: unknown): SafetensorsFile {
  if (typeof shard !== "string" || !isPlainFileName(shard))
    throw new ModelFormatError(
      index,
      `it puts tensor "${name}" into ${JSON.stringify(shard)}, but a shard is a plain file name in the same folder`,
    );
  const path = join(folder, shard);
  if (!existsSync(path)) throw new ModelFormatError(path, `this shard, which ${index} names, is missing`);
  return openSafetensors(path);
}

const isPlainFileName = (name: string): boolean =>
  !["", ".", ".."].includes(name) &&
  posix.basename(name) === name &&
  win32.basename(name) === name &&
  !name.includes("\0");

function checkpoint(
  folder: string,
  main: string,
  files: readonly string[],
  tensors: ReadonlyMap<string, SafetensorsFile>,
): Checkpoint {
  const find = (name: string) => {
    const file = tensors.get(name);
    const entry = file?.tensors.get(name);
    if (!file || !entry) throw new ModelFormatError(main, `tensor "${name}" is missing`);
    return { file, entry };
  };
  const close = () => {
    for (const file of tensors.values()) file.close();
  };
  return {
    folder,
    files,
    names: () => tensors.keys(),
    has: (name) => tensors.has(name),
    shape: (name) => find(name).entry.shape,
    file: (name) => find(name).file.path,
    dtype: (name) => find(name).entry.dtype,
    readBlocks: (name) => {
      throw new RangeError(`tensor "${name}" is stored as ${find(name).entry.dtype}, which has no blocks`);
    },
    readF32: (name, start, count) => find(name).file.readF32(name, start, count),
    readF32Into: (name, start, out) => find(name).file.readF32Into(name, start, out),
    expect: (name, shape) => {
      const { file, entry } = find(name);
      if (entry.shape.length !== shape.length || entry.shape.some((dimension, axis) => dimension !== shape[axis]))
        throw new ModelFormatError(
          file.path,
          `tensor "${name}" has shape [${entry.shape.join(", ")}], but the config makes it [${shape.join(", ")}]`,
        );
      if (!isFloatDtype(entry.dtype))
        throw new ModelFormatError(
          file.path,
          `tensor "${name}" has dtype ${entry.dtype}, but weights must be F32, F16 or BF16`,
        );
    },
    close,
    [Symbol.dispose]: close,
  };
}
