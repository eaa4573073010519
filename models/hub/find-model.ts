import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { type Environment, findSnapshot, hubCache } from "./hub-cache.js";
import { HubError } from "./hub-error.js";
import { type HubReference, parseReference } from "./reference.js";
import { modelsIn } from "./snapshot-models.js";

/** Where a model lies, and what it is called by those who ask for it. */
export interface FoundModel {
  /** Absolute: for `openModelSource`. */
  readonly path: string;
  /** The folder's or the file's name; for one of a hub `org/name`, without its revision. */
  readonly name: string;
}

/**
 * The model that a text names: a folder or file that exists, else `org/name[/file.gguf][@revision]` in Hugging Face's cache.
 * The network is not asked. A text that is neither is taken for a path.
 * @throws HubError saying how to pull one that is not there, or which of several files to choose.
 */
export function findModel(text: string, env: Environment): FoundModel {
  const reference = existsSync(text) ? null : parseReference(text);
  if (reference !== null) return findInCache(text, reference, env);
  const path = resolve(text);
  return { path, name: basename(path).replace(/(?<=.)\.gguf$/i, "") };
}

function findInCache(text: string, { repository, revision, file }: HubReference, env: Environment): FoundModel {
  const cache = hubCache(env);
  const snapshot = findSnapshot(cache, repository, revision);
  const at = revision === null ? "" : `@${revision}`;
  if (snapshot === null)
    throw new HubError(
      "missing",
      `there is no folder or file ${text} here, and no ${repository}${at} in the cache ${cache}: lambdatap pull ${text} fetches it`,
    );
  const name = file === null ? repository : `${repository}/${file}`;
  if (file !== null) {
    const path = join(snapshot.path, file);
    if (existsSync(path)) return { path, name };
    throw new HubError(
      "missing",
      `${repository}${at} is in the cache, but ${file} is not: lambdatap pull ${text} fetches it`,
    );
  }
  const [first, ...others] = modelsIn(snapshot.path);
  // A folder without weights, as other tools leave it where they wanted one file only: opening it says what is missing.
  if (first === undefined || first.format === "safetensors" || others.length === 0)
    return { path: first?.path ?? snapshot.path, name };
  const choices = [first, ...others].map((model) => `  ${repository}/${model.file}${at}`).join("\n");
  throw new HubError("missing", `${repository}${at} holds several models; name one:\n${choices}`);
}
