import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { filesBelow, finishedEntry, MANIFEST, type Manifest, removeEntry, touchEntry } from "./cache-entry.js";
import { CacheError, cacheError } from "./cache-error.js";
import { acquire, release } from "./cache-lock.js";
import { removeAbandoned, temporaryName } from "./cache-owner.js";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The cache folder: LAMBDATAP_CACHE, or `lambdatap` in the platform's cache directory (XDG_CACHE_HOME or ~/.cache,
 * ~/Library/Caches, %LOCALAPPDATA%). It need not exist.
 * @throws CacheError if none of these is known.
 */
export function cacheRoot(env: Environment, platform: NodeJS.Platform = process.platform): string {
  if (env.LAMBDATAP_CACHE) return resolve(env.LAMBDATAP_CACHE);
  if (platform === "win32") return join(env.LOCALAPPDATA || join(home(env), "AppData", "Local"), "lambdatap");
  if (platform === "darwin") return join(home(env), "Library", "Caches", "lambdatap");
  // XDG base directory specification: a relative path is to be ignored.
  const xdg = env.XDG_CACHE_HOME;
  return join(xdg && isAbsolute(xdg) ? xdg : join(home(env), ".cache"), "lambdatap");
}

function home(env: Environment): string {
  try {
    return env.HOME || homedir();
  } catch {
    throw new CacheError("This user has no home folder: choose a cache folder with LAMBDATAP_CACHE.");
  }
}

/** What is compiled. `key`: letters, digits, `-`, `_` and `.`, different for everything that makes the files different. */
export interface CacheItem {
  readonly key: string;
  readonly model: string;
  readonly precision: string;
}

/**
 * The folder of a compiled model, filled by `fill` if it is not there yet. It appears in one step when everything is on
 * the disk, so a process that is killed leaves nothing that is taken for complete. Of several processes that want the same
 * key one compiles and the others wait for it; if two compile nevertheless, both return the same folder.
 * @param fill writes files into the folder it is given (the name manifest.json is taken)
 * @throws CacheError if the folder cannot be written or the disk is full; what `fill` throws for other reasons.
 */
export async function publish(
  root: string,
  item: CacheItem,
  fill: (folder: string) => Promise<void> | void,
): Promise<string> {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$/.test(item.key)) throw new RangeError(`"${item.key}" is no cache key`);
  const folder = resolve(root);
  const finished = () => finishedEntry(folder, item.key) !== null;
  if (!finished()) {
    const temporary = temporaryName();
    try {
      mkdirSync(folder, { recursive: true });
      removeAbandoned(folder);
      if (await acquire(folder, item.key, temporary, finished)) await compile(folder, item, temporary, fill);
    } catch (error) {
      throw cacheError(folder, error);
    } finally {
      release(folder, item.key, temporary);
    }
  }
  touchEntry(folder, item.key);
  return join(folder, item.key);
}

async function compile(
  root: string,
  item: CacheItem,
  temporary: string,
  fill: (folder: string) => Promise<void> | void,
) {
  const folder = join(root, temporary);
  try {
    mkdirSync(folder);
    await fill(folder);
    const files = filesBelow(folder);
    for (const { name } of files) sync(join(folder, name));
    const manifest: Manifest = { format: "lambdatap-compiled-1", ...item, files };
    writeFileSync(join(folder, MANIFEST), `${JSON.stringify(manifest, null, 1)}\n`, { flush: true });
    syncFolder(folder);
    moveIntoPlace(root, item.key, folder);
    syncFolder(root);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function moveIntoPlace(root: string, key: string, folder: string): void {
  try {
    renameSync(folder, join(root, key));
  } catch (error) {
    if (finishedEntry(root, key)) return;
    // Under our key, but damaged: someone removed or cut a file of it.
    if (!(error instanceof Error && "code" in error && ["ENOTEMPTY", "EEXIST", "EPERM"].includes(String(error.code))))
      throw error;
    removeEntry(root, key);
    renameSync(folder, join(root, key));
  }
}

function sync(path: string): void {
  // Windows flushes only what may be written, others also a file that `fill` made read-only.
  const fd = openSync(path, process.platform === "win32" ? "r+" : "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Puts the names in a folder on the disk; Windows has no such call. */
function syncFolder(path: string): void {
  if (process.platform === "win32") return;
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
