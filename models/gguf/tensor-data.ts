import { closeSync } from "node:fs";
import { ModelFormatError } from "../errors.js";
import { openModelFile, readFully } from "../model-file.js";
import { DECODERS, type Decoder } from "./decoders.js";
import type { GgufHeader } from "./gguf-header.js";
import type { TensorInfo } from "./tensor-infos.js";

/** Bytes of a tensor that are read and decoded at a time. */
const PIECE_BYTES = 2 ** 20;

/** The tensors of one open GGUF file; its owner closes it. Ranges are the caller's to check. */
export interface TensorData {
  /** Elements [start, start + out.length) in row-major order, decoded. @throws ModelFormatError naming a type without decoder. */
  decode(name: string, info: TensorInfo, start: number, out: Float32Array): void;
  /** Stored bytes [from, from + out.length) of the tensor. */
  read(info: TensorInfo, from: number, out: Uint8Array): void;
  close(): void;
}

/** @throws ModelFormatError if the file is no longer what its header was read from. */
export function openTensorData({ path, size }: Pick<GgufHeader, "path" | "size">): TensorData {
  const { fd, size: now } = openModelFile(path);
  let open = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  if (now !== size) {
    close();
    throw new ModelFormatError(path, `the file has changed: it had ${size} bytes and now has ${now}`);
  }
  const piece = new Uint8Array(PIECE_BYTES);
  const read = (info: TensorInfo, from: number, out: Uint8Array) => {
    if (!open) throw new RangeError(`${path} is closed`);
    readFully(fd, path, out, info.byteOffset + from);
  };
  const decodeRange = (name: string, info: TensorInfo, start: number, out: Float32Array) => {
    const { decode } = decoderOf(path, name, info);
    const { elements, bytes } = info.type;
    const blocksAtOnce = Math.floor(PIECE_BYTES / bytes);
    const end = Math.ceil((start + out.length) / elements);
    for (let block = Math.floor(start / elements); block < end; block += blocksAtOnce) {
      const blocks = Math.min(blocksAtOnce, end - block);
      const stored = piece.subarray(0, blocks * bytes);
      read(info, block * bytes, stored);
      decodeWithin(decode, info.type, stored, block * elements - start, out);
    }
  };
  return { decode: decodeRange, read, close };
}

/** @throws ModelFormatError naming tensor and type. */
export function decoderOf(path: string, name: string, { type }: Pick<TensorInfo, "type">): Decoder {
  const decoder = DECODERS.get(type.name);
  if (decoder !== undefined) return decoder;
  throw new ModelFormatError(
    path,
    `tensor "${name}" is stored as ${type.name}; the types that weights can have are ${[...DECODERS.keys()].join(", ")}`,
  );
}

/** Decodes whole blocks, the first of which stands at element `to` of `out`; what lies outside of `out` is dropped. */
function decodeWithin(
  decode: Decoder["decode"],
  { elements, bytes }: TensorInfo["type"],
  stored: Uint8Array,
  to: number,
  out: Float32Array,
): void {
  const blocks = stored.length / bytes;
  const first = to < 0 ? 1 : 0;
  const whole = Math.floor((out.length - to) / elements);
  const last = Math.max(first, Math.min(blocks, whole));
  decode(stored, first * bytes, last - first, out, to + first * elements);
  const edges = [...(first === 1 ? [0] : []), ...(last < blocks ? [last] : [])];
  for (const block of edges) {
    const values = new Float32Array(elements);
    decode(stored, block * bytes, 1, values, 0);
    const at = to + block * elements;
    out.set(values.subarray(Math.max(0, -at), Math.min(elements, out.length - at)), Math.max(0, at));
  }
}
