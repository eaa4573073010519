import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { LabModel } from "../../../lab/model/lab-model.js";
import { packageRoot } from "../../../models/package-root.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { writeTensors } from "../../models/random-model.js";

const EMBEDDED = join(packageRoot(), "models", "default");

const opened = (path: string, name: string, hooks: readonly string[], cacheDir: string): Promise<LabModel> =>
  LabModel.open({ path, name, precision: "f32", device: { kind: "cpu" }, threads: 1, cacheDir }, hooks);

/** The embedded model with these hooks. */
export const embeddedLab = (hooks: readonly string[], cacheDir: string): Promise<LabModel> =>
  opened(EMBEDDED, "the embedded model", hooks, cacheDir);

/** The same with weights of its first MLP that make every sum overflow, in a new folder in `folder`. */
export function overflowingLab(hooks: readonly string[], folder: string): Promise<LabModel> {
  const path = join(folder, "overflowing");
  mkdirSync(path);
  for (const file of ["config.json", "tokenizer.json", "tokenizer_config.json"])
    copyFileSync(join(EMBEDDED, file), join(path, file));
  using weights = openSafetensors(join(EMBEDDED, "model.safetensors"));
  const tensors = [...weights.tensors].map(([name, { shape }]) => ({ name, shape, values: weights.readF32(name) }));
  tensors.find(({ name }) => name === "model.layers.0.mlp.down_proj.weight")?.values.fill(3e38);
  writeTensors(join(path, "model.safetensors"), tensors);
  return opened(path, "overflowing", hooks, folder);
}

/** Paragraphs that differ, some 20 tokens each. */
export const story = (paragraphs: number, about: string): string =>
  Array.from(
    { length: paragraphs },
    (_, i) =>
      `In the year ${i} the ${about} went over the hill, and nobody knew what number ${i * 7} had to say of it.`,
  ).join("\n\n");
