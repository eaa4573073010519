import { join } from "node:path";
import { LabModel } from "../../../lab/model/lab-model.js";
import { packageRoot } from "../../../models/package-root.js";

/** The embedded model with these hooks. */
export const embeddedLab = (hooks: readonly string[], cacheDir: string): Promise<LabModel> =>
  LabModel.open(
    {
      ...{ path: join(packageRoot(), "models", "default"), name: "the embedded model", precision: "f32", cacheDir },
      ...{ device: { kind: "cpu" }, threads: 1 },
    },
    hooks,
  );

/** Paragraphs that differ, some 20 tokens each. */
export const story = (paragraphs: number, about: string): string =>
  Array.from(
    { length: paragraphs },
    (_, i) =>
      `In the year ${i} the ${about} went over the hill, and nobody knew what number ${i * 7} had to say of it.`,
  ).join("\n\n");
