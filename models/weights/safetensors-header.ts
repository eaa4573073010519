import { z } from "zod";
import { ModelFormatError } from "../errors.js";
import { isJsonObject, readFully } from "../model-file.js";

/** As in the reference reader (safetensors 0.8), bytes. */
const MAX_HEADER_BYTES = 100_000_000;
/** Header object, tensor, shape. Checked before parsing, so that a nested bomb is not built in memory. */
const MAX_DEPTH = 3;

/** Bits per element of every dtype the format knows. */
const BITS: ReadonlyMap<string, number> = new Map([
  ["F4", 4],
  ...["F6_E2M3", "F6_E3M2"].map((dtype) => [dtype, 6] as const),
  ...["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"].map(
    (dtype) => [dtype, 8] as const,
  ),
  ...["U16", "I16", "F16", "BF16"].map((dtype) => [dtype, 16] as const),
  ...["U32", "I32", "F32"].map((dtype) => [dtype, 32] as const),
  ...["U64", "I64", "F64", "C64"].map((dtype) => [dtype, 64] as const),
]);

/** One tensor of the file. `byteOffset` counts from the beginning of the file. */
export interface TensorEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteOffset: number;
  readonly byteLength: number;
}

const natural = z.int().nonnegative();
const Entry = z.object({
  dtype: z.string(),
  shape: z.array(natural),
  data_offsets: z.tuple([natural, natural]),
});

/**
 * The header of a safetensors file, checked so far that every entry can be trusted: known dtypes, ranges that lie in the
 * file, have the size of their shape and tile the data without holes, overlaps or a rest; no name twice. Nothing larger
 * than the header is allocated. Format: github.com/huggingface/safetensors, README "Format".
 * @throws ModelFormatError naming the tensor.
 */
export function readSafetensorsHeader(fd: number, size: number, path: string): ReadonlyMap<string, TensorEntry> {
  const text = readHeaderText(fd, size, path);
  const dataOffset = 8 + text.bytes;
  const tensors = new Map<string, TensorEntry>();
  for (const [name, value] of parseHeader(text.json, path)) {
    if (name !== "__metadata__") tensors.set(name, readEntry(name, value, dataOffset, size - dataOffset, path));
    else if (!isJsonObject(value) || Object.values(value).some((entry) => typeof entry !== "string"))
      throw new ModelFormatError(path, "__metadata__ in the header is not a map of strings");
  }
  checkTiling(tensors, dataOffset, size, path);
  return tensors;
}

function readHeaderText(fd: number, size: number, path: string): { json: string; bytes: number } {
  if (size < 8) throw new ModelFormatError(path, `a safetensors file has at least 8 bytes, this one has ${size}`);
  const lengthBytes = new Uint8Array(8);
  readFully(fd, path, lengthBytes, 0);
  const promised = new DataView(lengthBytes.buffer).getBigUint64(0, true);
  if (promised > MAX_HEADER_BYTES)
    throw new ModelFormatError(path, `the header is said to have ${promised} bytes, more than any real one`);
  const bytes = Number(promised);
  if (bytes > size - 8)
    throw new ModelFormatError(path, `the file is shorter than its header promises: ${size - 8} bytes of ${bytes}`);
  const header = new Uint8Array(bytes);
  readFully(fd, path, header, 8);
  try {
    return { json: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header), bytes };
  } catch {
    throw new ModelFormatError(path, "the header is not valid JSON: it is not even UTF-8 text");
  }
}

function parseHeader(json: string, path: string): [string, unknown][] {
  const keys = topLevelKeys(json, path);
  let header: unknown;
  try {
    header = JSON.parse(json);
  } catch {
    throw new ModelFormatError(path, "the header is not valid JSON");
  }
  if (!isJsonObject(header) || !json.startsWith("{"))
    throw new ModelFormatError(path, "the header is not a JSON object");
  const seen = new Set<unknown>();
  for (const name of keys.map((key): unknown => JSON.parse(key))) {
    if (seen.has(name)) throw new ModelFormatError(path, `tensor "${name}" occurs twice in the header`);
    seen.add(name);
  }
  return Object.entries(header);
}

/** The keys of the outermost object as they are written, quotes included: JSON.parse would keep the last of two. */
function topLevelKeys(json: string, path: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const char = json[at];
    if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]") depth--;
    else if (char === '"') {
      const start = at++;
      while (at < json.length && json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
      let next = at + 1;
      while (" \t\r\n".includes(json[next] ?? "x")) next++;
      if (depth === 1 && json[next] === ":") keys.push(json.slice(start, at + 1));
    }
    if (depth > MAX_DEPTH) throw new ModelFormatError(path, "the header is nested deeper than the format knows");
  }
  return keys;
}

function readEntry(name: string, value: unknown, dataOffset: number, dataBytes: number, path: string): TensorEntry {
  const refuse = (reason: string) => new ModelFormatError(path, `tensor "${name}" ${reason}`);
  const parsed = Entry.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw refuse(`has a malformed header entry: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { dtype, shape, data_offsets } = parsed.data;
  const [begin, end] = data_offsets;
  const bits = BITS.get(dtype);
  if (bits === undefined) throw refuse(`has the unknown dtype ${dtype}`);
  let elementBits = bits;
  for (const dimension of shape) {
    elementBits *= dimension;
    if (!Number.isSafeInteger(elementBits)) throw refuse(`has the impossible shape [${shape}]`);
  }
  if (begin > end) throw refuse(`ends before it begins: data_offsets [${begin}, ${end}]`);
  if (end > dataBytes)
    throw refuse(`ends at byte ${end} of ${dataBytes}: the file is shorter than its header promises`);
  if (elementBits !== (end - begin) * 8)
    throw refuse(`has ${end - begin} bytes, but ${dtype} of shape [${shape}] takes ${elementBits / 8}`);
  return { dtype, shape, byteOffset: dataOffset + begin, byteLength: end - begin };
}

function checkTiling(tensors: ReadonlyMap<string, TensorEntry>, dataOffset: number, size: number, path: string): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = dataOffset;
  for (const [name, { byteOffset, byteLength }] of ordered) {
    if (byteOffset < end) throw new ModelFormatError(path, `tensor "${name}" overlaps the tensor before it`);
    if (byteOffset > end)
      throw new ModelFormatError(path, `${byteOffset - end} bytes before tensor "${name}" belong to no tensor`);
    end = byteOffset + byteLength;
  }
  if (end !== size) throw new ModelFormatError(path, `the last ${size - end} bytes of the file belong to no tensor`);
}
