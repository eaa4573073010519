import { closeSync, openSync, writeSync } from "node:fs";
import { ModelFormatError } from "../errors.js";
import type { WeightPlace } from "../onnx/graph.js";
import { PLAIN_8 } from "../weights/block-format.js";
import { quantiseRows } from "../weights/quantise.js";
import { transposeRows } from "../weights/transpose.js";
import { rowNorms } from "./folding.js";
import { readingVectors } from "./reading-activations.js";
import type { SaeDescription } from "./sae.js";
import { DECODER, DECODER_NORMS, ENCODER, quantised, type SaePrecision } from "./sae-matrices.js";
import { vectorsOf } from "./stored-sae.js";

const ALIGNMENT = 64;

type Places = Map<string, WeightPlace & { readonly type: "float32" | "uint8" }>;

/**
 * Writes an SAE's numbers, in the layout of its graphs, one tensor after the other.
 * @returns where they are, and the size of the file
 * @throws ModelFormatError naming a tensor that holds NaN or infinities.
 */
export function writeSaeWeights(
  path: string,
  sae: SaeDescription,
  precision: SaePrecision,
): { readonly places: Places; readonly bytes: number } {
  const { dIn, dSae, dOut, wEnc, wDec } = sae;
  const norms = Float32Array.from(rowNorms(wDec, dSae));
  const vectors = new Map([...vectorsOf(sae), ...readingVectors(sae), [DECODER_NORMS, norms]]);
  const places: Places = new Map();
  let bytes = 0;
  const fd = openSync(path, "wx");
  const add = (name: string, values: Float32Array | Uint8Array, shape: readonly number[]) => {
    if (values instanceof Float32Array && !values.every(Number.isFinite))
      throw new ModelFormatError(sae.file, `tensor "${name}" holds values that are not finite numbers`);
    const type = values instanceof Float32Array ? "float32" : "uint8";
    places.set(name, { type, shape, offset: bytes, bytes: values.byteLength });
    write(fd, values, bytes);
    bytes += Math.ceil(values.byteLength / ALIGNMENT) * ALIGNMENT;
  };
  try {
    for (const [name, values, rows, columns] of [
      [ENCODER, wEnc, dIn, dSae],
      [DECODER, wDec, dSae, dOut],
    ] as const) {
      add(name, values, [rows, columns]);
      if (precision === "f32") continue;
      const transposed = new Float32Array(values.length);
      transposeRows(values, columns, transposed, rows, 0);
      const { data, scales } = quantiseRows(transposed, columns, rows);
      const blocks = Math.ceil(rows / PLAIN_8.size);
      add(quantised(name).data, data, [columns, blocks, PLAIN_8.size]);
      add(quantised(name).scales, scales, [columns, blocks]);
    }
    for (const [name, values] of vectors) add(name, values, [values.length]);
    const last = [...places.values()].at(-1);
    return { places, bytes: last === undefined ? 0 : last.offset + last.bytes };
  } finally {
    closeSync(fd);
  }
}

function write(fd: number, values: Float32Array | Uint8Array, offset: number): void {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}
