import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { cacheError } from "./cache-error.js";
import { removeStaleLocks } from "./cache-lock.js";
import { removeAbandoned, temporaryName } from "./cache-owner.js";

export const MANIFEST = "manifest.json";

/** What makes a folder of the cache an entry of ours. Written last; `files` are all others of the entry, in bytes. */
export const Manifest = z.object({
  format: z.literal("lambdatap-compiled-1"),
  key: z.string(),
  model: z.string(),
  precision: z.string(),
  files: z.array(z.object({ name: z.string(), bytes: z.number() })),
});
export type Manifest = z.infer<typeof Manifest>;

/** A compiled model in the cache. `bytes` on the disk; `lastUsed`: when it was last compiled or opened. */
export interface CacheEntry {
  readonly key: string;
  readonly model: string;
  readonly precision: string;
  readonly bytes: number;
  readonly lastUsed: Date;
}

/** Files below a folder with their sizes in bytes, names with `/`, sorted; links are not followed. */
export const filesBelow = (folder: string, prefix = ""): { name: string; bytes: number }[] =>
  readdirSync(join(folder, prefix), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((file) => {
      const name = prefix + file.name;
      return file.isDirectory()
        ? filesBelow(folder, `${name}/`)
        : [{ name, bytes: lstatSync(join(folder, name)).size }];
    });

/** The manifest of a finished entry whose files are all there in full length, else null. */
export function finishedEntry(root: string, key: string): Manifest | null {
  const folder = join(root, key);
  try {
    if (!lstatSync(folder).isDirectory()) return null;
    const manifest = Manifest.parse(JSON.parse(readFileSync(join(folder, MANIFEST), "utf8")));
    const whole = manifest.files.every(({ name, bytes }) => lstatSync(join(folder, name)).size === bytes);
    return manifest.key === key && whole ? manifest : null;
  } catch {
    return null;
  }
}

/** Notes that an entry is in use now; a cache that may only be read does without. */
export function touchEntry(root: string, key: string): void {
  const now = new Date();
  try {
    utimesSync(join(root, key, MANIFEST), now, now);
  } catch {}
}

/**
 * The finished entries of a cache, last used first; none if the folder does not exist.
 * @throws CacheError if the folder cannot be read.
 */
export function listEntries(root: string): CacheEntry[] {
  const folder = resolve(root);
  return keysIn(folder)
    .flatMap((key) => {
      const manifest = finishedEntry(folder, key);
      if (!manifest) return [];
      const { mtime: lastUsed, size } = lstatSync(join(folder, key, MANIFEST));
      const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, size);
      return [{ key, model: manifest.model, precision: manifest.precision, bytes, lastUsed }];
    })
    .sort((a, b) => b.lastUsed.getTime() - a.lastUsed.getTime());
}

/**
 * Removes entries that were not used for `olderThanDays`, or `all`, but never those in `keep`; and what killed processes
 * left behind. Anything in the folder that is not an entry of ours stays. A server that has an entry open keeps working
 * (not on Windows, where the removal fails), but must compile again when it starts next.
 * @returns the removed entries
 * @throws CacheError if an entry cannot be removed.
 */
export function prune(
  root: string,
  { olderThanDays, all = false, keep = [] }: { olderThanDays?: number; all?: boolean; keep?: readonly string[] },
): CacheEntry[] {
  const folder = resolve(root);
  const oldest = Date.now() - (olderThanDays ?? Number.POSITIVE_INFINITY) * 86_400_000;
  const removed = listEntries(folder).filter(
    ({ key, lastUsed }) => !keep.includes(key) && (all || lastUsed.getTime() < oldest),
  );
  for (const { key } of removed) removeEntry(folder, key);
  removeAbandoned(folder);
  removeStaleLocks(folder);
  return removed;
}

/**
 * Puts a file into the folder of an entry in one step, in place of one of that name. The manifest does not know it.
 * @throws CacheError when the cache cannot be written.
 */
export function putIntoEntry(root: string, entry: string, name: string, bytes: Uint8Array): void {
  const temporary = join(root, temporaryName());
  try {
    mkdirSync(entry, { recursive: true }); // `cache prune` may have removed it from under a running server
    writeFileSync(temporary, bytes, { flush: true });
    renameSync(temporary, join(entry, name));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw cacheError(root, error);
  }
}

/** Takes an entry out of sight in one step, so that no one opens half of it, then removes it. @throws CacheError */
export function removeEntry(root: string, key: string): void {
  const aside = join(root, temporaryName());
  try {
    renameSync(join(root, key), aside);
    rmSync(aside, { recursive: true, force: true });
  } catch (error) {
    throw cacheError(root, error);
  }
}

function keysIn(root: string): string[] {
  try {
    return readdirSync(root);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw cacheError(root, error);
  }
}
