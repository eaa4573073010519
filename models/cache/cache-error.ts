import { sep } from "node:path";

/** The cache folder cannot be used; the message is a sentence for the user, with the path and what to do. */
export class CacheError extends Error {
  override readonly name = "CacheError";
}

const elsewhere = "or choose another folder with LAMBDATAP_CACHE";

const REMEDIES: ReadonlyMap<string, string> = new Map([
  ...["EACCES", "EPERM", "EROFS"].map(
    (code) => [code, `cannot be written: give this user the right to, ${elsewhere}`] as const,
  ),
  ...["ENOTDIR", "EEXIST"].map(
    (code) => [code, `cannot be made, because a file is in its place: remove that, ${elsewhere}`] as const,
  ),
  ["ENOSPC", `is on a disk that is full: free some space (lambdatap cache prune), ${elsewhere}`],
  ["EDQUOT", `has used up this user's disk quota: free some space (lambdatap cache prune), ${elsewhere}`],
  ["EFBIG", `is on a file system that cannot hold a file this large: raise the limit, ${elsewhere}`],
]);

/**
 * What a failed system call on the cache becomes; every other error is returned as it is. Errors of the calls that work
 * on an open file carry no path: those that only writing can cause belong to the cache, since nothing else is written.
 */
export function cacheError(root: string, error: unknown): unknown {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return error;
  const path = "path" in error && typeof error.path === "string" ? error.path : undefined;
  const ours =
    path === undefined
      ? isWriteError(error)
      : path === root || path.startsWith(root + sep) || root.startsWith(path + sep);
  if (!ours) return error;
  const remedy = REMEDIES.get(error.code) ?? `cannot be used: check the disk, ${elsewhere}`;
  return new CacheError(`The cache folder ${root} ${remedy} (${error.message}).`, { cause: error });
}

const isWriteError = (error: Error): boolean =>
  "syscall" in error && ["write", "writev", "fsync", "fdatasync", "ftruncate", "close"].includes(String(error.syscall));
