import type { HeaderReader } from "./header-reader.js";
import { REMOVED_TYPES, TENSOR_TYPES, type TensorType } from "./tensor-types.js";

/** Bytes of a tensor's name at most. */
const MAX_NAME_BYTES = 64;
const MAX_DIMENSIONS = 4;
/** Tensors of a file; the largest real ones have a few thousand. */
const MAX_TENSORS = 2n ** 17n;
/** A name of one byte, one dimension: u64 length, text, u32 dimensions, u64 dimension, u32 type, u64 offset. */
const MIN_INFO_BYTES = 8 + 1 + 4 + 8 + 4 + 8;

/** One tensor of a file. `shape` is row-major: the file lists its dimensions the other way round. */
export interface TensorInfo {
  readonly type: TensorType;
  readonly shape: readonly number[];
  /** Counted from the beginning of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

interface ListedTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly shape: readonly number[];
  readonly byteLength: bigint;
  /** Counted from the beginning of the data. */
  readonly offset: bigint;
}

/**
 * The list of tensors, checked so far that every entry can be trusted: known types, whole blocks in every row, ranges
 * that lie in the file, are aligned and do not overlap; no name twice. Unused bytes between tensors are allowed.
 * @throws ModelFormatError naming the tensor.
 */
export function readTensorInfos(
  reader: HeaderReader,
  count: bigint,
  alignment: number,
): ReadonlyMap<string, TensorInfo> {
  const left = reader.size - reader.position;
  if (count * BigInt(MIN_INFO_BYTES) > BigInt(left))
    throw reader.refuse(`the header promises ${count} tensors, but only ${left} bytes are left of the file`);
  if (count > MAX_TENSORS) throw reader.refuse(`the header promises ${count} tensors, more than any real one`);
  const listed = new Map<string, ListedTensor>();
  for (let i = 0; i < Number(count); i++) {
    const tensor = readInfo(reader, i);
    if (listed.has(tensor.name)) throw reader.refuse(`tensor "${tensor.name}" is listed twice`);
    listed.set(tensor.name, tensor);
  }
  return place(reader, [...listed.values()], alignment);
}

function readInfo(reader: HeaderReader, index: number): ListedTensor {
  const name = reader.strictText(`the name of tensor ${index}`, MAX_NAME_BYTES);
  if (name === "") throw reader.refuse(`the name of tensor ${index} is empty`);
  const what = `tensor "${name}"`;
  const dimensions = reader.u32(what);
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS)
    throw reader.refuse(`${what} has ${dimensions} dimensions, but tensors have 1 to ${MAX_DIMENSIONS}`);
  const fastestFirst = Array.from({ length: dimensions }, () => reader.u64(what));
  const type = readType(reader, what);
  const shown = `${type.name} [${fastestFirst.join(", ")}]`;
  if (fastestFirst.some((dimension) => dimension === 0n)) throw reader.refuse(`${what}, ${shown}, is empty`);
  if ((fastestFirst[0] ?? 0n) % BigInt(type.elements) !== 0n)
    throw reader.refuse(`${what}, ${shown}, has rows that are no multiple of ${type.elements}, as ${type.name} needs`);
  const elements = fastestFirst.reduce((product, dimension) => product * dimension, 1n);
  const byteLength = (elements / BigInt(type.elements)) * BigInt(type.bytes);
  if (byteLength > BigInt(reader.size))
    throw reader.refuse(`${what}, ${shown}, takes ${byteLength} bytes, but the file is too short: ${reader.size}`);
  return { name, type, shape: fastestFirst.map(Number).reverse(), byteLength, offset: reader.u64(what) };
}

function readType(reader: HeaderReader, what: string): TensorType {
  const number = reader.u32(what);
  const type = TENSOR_TYPES.get(number);
  if (type !== undefined) return type;
  const removed = REMOVED_TYPES.get(number);
  throw reader.refuse(
    removed === undefined
      ? `${what} has the unknown type ${number}`
      : `${what} has the type ${number} (${removed}), which the format no longer has`,
  );
}

/** The data begins at the next multiple of the alignment; so does every tensor in it. */
function place(
  reader: HeaderReader,
  listed: readonly ListedTensor[],
  alignment: number,
): ReadonlyMap<string, TensorInfo> {
  const dataStart = Math.ceil(reader.position / alignment) * alignment;
  const tensors = new Map<string, TensorInfo>();
  const dataBytes = BigInt(reader.size - dataStart);
  for (const { name, type, shape, byteLength, offset } of listed) {
    if (offset % BigInt(alignment) !== 0n)
      throw reader.refuse(`tensor "${name}" begins at byte ${offset} of the data, no multiple of ${alignment}`);
    if (offset + byteLength > dataBytes)
      throw reader.refuse(
        `tensor "${name}" ends at byte ${offset + byteLength} of the data, but the file is too short: ${
          dataBytes > 0n ? `it has ${dataBytes}` : "it has none"
        }`,
      );
    tensors.set(name, { type, shape, byteOffset: dataStart + Number(offset), byteLength: Number(byteLength) });
  }
  checkOverlaps(reader, tensors);
  return tensors;
}

function checkOverlaps(reader: HeaderReader, tensors: ReadonlyMap<string, TensorInfo>): void {
  let [end, before] = [0, ""];
  for (const [name, info] of [...tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset)) {
    if (info.byteOffset < end) throw reader.refuse(`tensor "${name}" overlaps tensor "${before}"`);
    [end, before] = [info.byteOffset + info.byteLength, name];
  }
}
