import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ModelFormatError } from "../errors.js";
import { type GgufHeader, readGgufHeader } from "./gguf-header.js";
import { type MetadataFields, metadataFields } from "./metadata-fields.js";
import type { TensorInfo } from "./tensor-infos.js";

/** As llama.cpp names the files of a split model: number and count have five digits and begin at 1. */
const SPLIT_NAME = /^(?<stem>.*)-(?<number>\d{5})-of-(?<count>\d{5})\.gguf$/s;
const COUNT = { min: 0, max: 65_535 };

export interface PlacedTensor {
  readonly name: string;
  readonly file: GgufHeader;
  readonly info: TensorInfo;
}

/** A model in one GGUF file, or in several that belong together. */
export interface GgufFiles {
  readonly files: readonly GgufHeader[];
  /** Of the first file, which describes the model. */
  readonly fields: MetadataFields;
  /** Of all files, by the names that GGUF gives them. */
  readonly tensors: ReadonlyMap<string, PlacedTensor>;
}

/** The files that a file name stands for: the number of a split file and the names of all of them; null for other names. */
export function splitNames(name: string): { readonly number: number; readonly names: readonly string[] } | null {
  const { stem, number, count } = SPLIT_NAME.exec(name)?.groups ?? {};
  const names = Array.from(
    { length: Number(count ?? 0) },
    (_, i) => `${stem}-${String(i + 1).padStart(5, "0")}-of-${count}.gguf`,
  );
  return names.includes(name) ? { number: Number(number), names } : null;
}

/**
 * Reads the headers of the model whose only or first file is `path`.
 * @throws ModelFormatError as `readGgufHeader`, and where files of a split are missing or do not belong together.
 */
export function readGgufFiles(path: string): GgufFiles {
  const first = readGgufHeader(path);
  const fields = metadataFields(path, first.metadata);
  const count = fields.whole("split.count", COUNT, 1);
  const files = count > 1 ? [first, ...otherFiles(path, fields)] : [first];
  const tensors = new Map<string, PlacedTensor>();
  for (const file of files)
    for (const [name, info] of file.tensors) {
      if (tensors.has(name))
        throw new ModelFormatError(file.path, `tensor "${name}" is in another file of the split too`);
      tensors.set(name, { name, file, info });
    }
  const promised = fields.whole("split.tensors.count", { min: 0, max: 2 ** 31 }, tensors.size);
  if (promised !== tensors.size)
    throw fields.refuse("split.tensors.count", `the files of the split have ${tensors.size} tensors`);
  return { files, fields, tensors };
}

function otherFiles(path: string, fields: MetadataFields): GgufHeader[] {
  const split = splitNames(basename(path));
  if (split === null)
    throw fields.refuse("split.count", "then the file's name must end in -00001-of-0000N.gguf, and this one does not");
  const [first = "", ...others] = split.names;
  if (split.number !== 1)
    throw new ModelFormatError(path, `this is file ${split.number} of a split model; open the first, ${first}`);
  checkPlace(fields, split.names.length, 0);
  return others.map((name, i) => {
    const file = join(dirname(path), name);
    if (!existsSync(file)) throw new ModelFormatError(file, "this file of a split model is missing");
    const header = readGgufHeader(file);
    checkPlace(metadataFields(file, header.metadata), split.names.length, i + 1);
    return header;
  });
}

/** @throws ModelFormatError where a file says otherwise than its name. */
function checkPlace(fields: MetadataFields, count: number, place: number): void {
  if (fields.whole("split.count", COUNT) !== count) throw fields.refuse("split.count", `the file's name says ${count}`);
  if (fields.whole("split.no", COUNT) !== place)
    throw fields.refuse("split.no", `it must be ${place}, counted from 0, by the file's name`);
}
