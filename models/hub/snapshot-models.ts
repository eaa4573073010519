import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { ggufChoices, isProjector } from "./choose-files.js";

/** How deep GGUF files are looked for: repositories have a folder per quantisation. */
const DEPTH = 3;

/** A model that a snapshot holds. */
export interface SnapshotModel {
  readonly format: "safetensors" | "gguf";
  /** The folder, or the file (the first of a split one). */
  readonly path: string;
  /** Of a GGUF in the repository; null for the folder as a whole. */
  readonly file: string | null;
  readonly bytes: number;
}

/** The models in a snapshot: the folder, if it is one in Hugging Face layout, and each GGUF; parts of a split one are one. */
export function modelsIn(snapshot: string): SnapshotModel[] {
  const paths = filesIn(snapshot, "", DEPTH);
  const sum = (files: readonly string[]) => files.reduce((bytes, file) => bytes + sizeOf(join(snapshot, file)), 0);
  const rest = paths.filter((path) => !/\.gguf$/i.test(path));
  const isFolderModel = ["model.safetensors", "model.safetensors.index.json"].some((name) => rest.includes(name));
  const folder = { format: "safetensors", path: snapshot, file: null, bytes: sum(rest) } as const;
  const ggufs = ggufChoices(paths)
    .filter(({ path }) => !isProjector(path))
    .map(({ path, parts }) => ({ format: "gguf", path: join(snapshot, path), file: path, bytes: sum(parts) }) as const);
  return [...(isFolderModel ? [folder] : []), ...ggufs];
}

function filesIn(folder: string, prefix: string, depth: number): string[] {
  if (!existsSync(join(folder, prefix))) return [];
  return readdirSync(join(folder, prefix), { withFileTypes: true }).flatMap((entry) => {
    const name = prefix + entry.name;
    if (entry.isDirectory()) return depth > 1 ? filesIn(folder, `${name}/`, depth - 1) : [];
    return [name];
  });
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
