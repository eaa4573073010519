import { readdirSync } from "node:fs";
import { join } from "node:path";
import { readRef } from "./hub-cache.js";
import { isCommit } from "./reference.js";
import { modelsIn, type SnapshotModel } from "./snapshot-models.js";

/** A model in Hugging Face's cache, whoever pulled it. */
export interface CachedModel extends SnapshotModel {
  /** org/name, or a name alone. */
  readonly repository: string;
  readonly commit: string;
  /** Branches and tags that stood for the commit when they were last asked for. */
  readonly refs: readonly string[];
}

/** The models in a cache, by name; none where the folder does not exist. What is no model, or cannot be read, is left out. */
export function cachedModels(cache: string): CachedModel[] {
  return namesIn(cache)
    .flatMap((name) => (/^models--(.+)$/.exec(name)?.[1] ? [name] : []))
    .sort()
    .flatMap((name) => {
      const folder = join(cache, name);
      const refs = refsIn(folder, "");
      return namesIn(join(folder, "snapshots"))
        .filter(isCommit)
        .flatMap((commit) =>
          modelsIn(join(folder, "snapshots", commit)).map((model) => ({
            ...model,
            repository: name.slice("models--".length).replaceAll("--", "/"),
            commit,
            refs: refs.filter((ref) => readRef(folder, ref) === commit),
          })),
        );
    });
}

/** Names of refs, which may have slashes (refs/pr/1). */
function refsIn(folder: string, prefix: string): string[] {
  return namesIn(join(folder, "refs", prefix)).flatMap((name) => {
    const below = refsIn(folder, `${prefix}${name}/`);
    return below.length > 0 ? below : [prefix + name];
  });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
