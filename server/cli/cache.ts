import { type CacheEntry, listEntries, prune } from "../../models/cache/cache-entry.js";
import { cacheRoot } from "../../models/cache/compile-cache.js";
import { UsageError } from "./flags.js";
import type { CacheOptions } from "./options.js";

/** `cache ls` and `cache prune`. */
export async function cache(action: string | undefined, options: CacheOptions): Promise<number> {
  const root = options.cacheDir ?? cacheRoot(process.env);
  if (action === "ls") {
    const entries = listEntries(root);
    process.stdout.write(`${entries.map(toLine).join("")}${sum(entries)} in ${root}\n`);
    return 0;
  }
  if (action === "prune") {
    const removed = prune(root, options.all ? { all: true } : { olderThanDays: options.olderThanDays });
    process.stdout.write(`${removed.map(toLine).join("")}${sum(removed)} removed from ${root}\n`);
    return 0;
  }
  throw new UsageError(action === undefined ? "say ls or prune" : `unknown action '${action}': say ls or prune`);
}

function toLine({ key, model, precision, bytes, lastUsed }: CacheEntry): string {
  return `${lastUsed.toISOString().slice(0, 10)}  ${megabytes(bytes).padStart(9)}  ${precision.padEnd(8)}  ${key.slice(0, 16)}  ${model}\n`;
}

function sum(entries: readonly CacheEntry[]): string {
  const bytes = entries.reduce((total, entry) => total + entry.bytes, 0);
  return `${entries.length} compiled model${entries.length === 1 ? "" : "s"}, ${megabytes(bytes)}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
