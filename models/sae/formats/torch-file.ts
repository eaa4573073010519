import { closeSync } from "node:fs";
import { ModelFormatError } from "../../errors.js";
import { openModelFile, readFully } from "../../model-file.js";
import type { Tensor } from "./sae-tensors.js";
import { BYTES, toF32 } from "./stored-numbers.js";
import { type TorchTensor, unpickleStateDict } from "./torch-pickle.js";
import { openZip, type ZipFile } from "./zip-file.js";

/**
 * The tensors of a state dict that torch.save wrote (.pt, PyTorch 1.6 and later) as f32, row-major whatever strides they
 * are stored with; integers too. Nothing in the file is executed.
 * @throws ModelFormatError saying what is wrong, or what in it no file of tensors needs.
 */
export async function readTorchFile(path: string): Promise<ReadonlyMap<string, Tensor>> {
  refuseLegacy(path);
  using zip = await openZip(path);
  const [pickle, ...others] = zip.names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickle === undefined || others.length > 0)
    throw new ModelFormatError(path, "this zip archive is no file of torch.save: there is not one data.pkl in it");
  const folder = pickle.slice(0, -"data.pkl".length);
  await refuseBigEndian(zip, `${folder}byteorder`, path);
  const tensors = new Map<string, Tensor>();
  for (const [name, tensor] of unpickleStateDict(await zip.read(pickle), path)) {
    const bytes = await zip.read(`${folder}data/${tensor.storage.key}`);
    const { format, length } = tensor.storage;
    if (bytes.length !== length * BYTES[format])
      throw new ModelFormatError(path, `the storage of "${name}" has ${bytes.length} bytes, not ${length} numbers`);
    tensors.set(name, { shape: tensor.shape, values: rowMajor(toF32(format, bytes), tensor) });
  }
  return tensors;
}

function refuseLegacy(path: string): void {
  const { fd, size } = openModelFile(path);
  try {
    const start = new Uint8Array(Math.min(4, size));
    readFully(fd, path, start, 0);
    const legacy = [0x80, 0x02, 0x8a, 0x0a].every((byte, i) => byte === start[i]);
    if (legacy)
      throw new ModelFormatError(
        path,
        "this is the file format of PyTorch before 1.6: load it with torch.load and save it again with torch.save",
      );
  } finally {
    closeSync(fd);
  }
}

async function refuseBigEndian(zip: ZipFile, member: string, path: string): Promise<void> {
  if (!zip.names.includes(member)) return;
  const order = new TextDecoder().decode(await zip.read(member));
  if (order !== "little") throw new ModelFormatError(path, `its byte order is ${JSON.stringify(order.slice(0, 20))}`);
}

function rowMajor(storage: Float32Array, { offset, shape, strides }: TorchTensor): Float32Array {
  const elements = shape.reduce((product, size) => product * size, 1);
  const expected = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  if (shape.every((size, axis) => size === 1 || strides[axis] === expected[axis]))
    return storage.subarray(offset, offset + elements);
  const out = new Float32Array(elements);
  let written = 0;
  const copy = (axis: number, at: number): void => {
    const [size, stride] = [shape[axis] ?? 1, strides[axis] ?? 1];
    const innermost = axis >= shape.length - 1;
    for (let i = 0; i < size; i++) {
      if (innermost) out[written++] = storage[at + i * stride] ?? 0;
      else copy(axis + 1, at + i * stride);
    }
  };
  copy(0, offset);
  return out;
}
