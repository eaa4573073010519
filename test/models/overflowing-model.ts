import { copyFileSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { openSafetensors } from "../../models/weights/safetensors.js";
import { goldenFolder } from "../golden-tensors.js";
import { writeTensors } from "./random-model.js";

/**
 * Writes a golden model to a new folder in `to`, in which what is computed from id 0 overflows, and becomes NaN.
 * @param embedding the name of the tensor
 */
export function overflowing(to: string, name: string, embedding: string): string {
  const path = mkdtempSync(join(to, "model-"));
  const golden = goldenFolder(name);
  copyFileSync(join(golden, "config.json"), join(path, "config.json"));
  using file = openSafetensors(join(golden, "model.safetensors"));
  const tensors = [...file.tensors].map(([key, { shape }]) => ({ name: key, shape, values: file.readF32(key) }));
  const table = tensors.find((each) => each.name === embedding);
  table?.values.fill(3e38, 0, table.shape[1]);
  writeTensors(join(path, "model.safetensors"), tensors);
  return path;
}
