import { createHash } from "node:crypto";
import { mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { cacheError } from "../../../models/cache/cache-error.js";
import { temporaryName } from "../../../models/cache/cache-owner.js";
import { type CudaProvider, PROVIDER, SHARED } from "./cuda-providers.js";

const CORE = "libonnxruntime.so.1";

/**
 * The path from which ONNX Runtime is to be opened so that it finds the provider: it looks in the folder of the path by
 * which it was opened, links not followed. Where the two lie apart, a folder of links in the cache brings them together.
 * @throws CacheError where the cache folder cannot be written.
 */
export function libraryWithProvider({ core, folder }: CudaProvider, cacheRoot: string): string {
  if (dirname(core) === folder) return core;
  const links = new Map([
    [CORE, core],
    [SHARED, join(folder, SHARED)],
    [PROVIDER, join(folder, PROVIDER)],
  ]);
  const root = resolve(cacheRoot);
  const key = createHash("sha256")
    .update([...links.values()].join("\0"))
    .digest("hex")
    .slice(0, 16);
  const linked = join(root, `onnxruntime-cuda-${key}`);
  if (!isComplete(linked, links)) make(root, linked, links);
  return join(linked, CORE);
}

function isComplete(folder: string, links: ReadonlyMap<string, string>): boolean {
  try {
    return [...links].every(([name, target]) => readlinkSync(join(folder, name)) === target);
  } catch {
    return false;
  }
}

/** It appears in one step; of two processes that make it at once the second finds the first's. */
function make(root: string, folder: string, links: ReadonlyMap<string, string>): void {
  const temporary = join(root, temporaryName());
  try {
    mkdirSync(temporary, { recursive: true });
    try {
      for (const [name, target] of links) symlinkSync(target, join(temporary, name));
      moveIntoPlace(temporary, folder, links);
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  } catch (error) {
    throw cacheError(root, error);
  }
}

function moveIntoPlace(temporary: string, folder: string, links: ReadonlyMap<string, string>): void {
  try {
    renameSync(temporary, folder);
  } catch (error) {
    if (isComplete(folder, links)) return;
    if (!(error instanceof Error && "code" in error && ["ENOTEMPTY", "EEXIST"].includes(String(error.code))))
      throw error;
    // Someone took a link away.
    rmSync(folder, { recursive: true, force: true });
    renameSync(temporary, folder);
  }
}
