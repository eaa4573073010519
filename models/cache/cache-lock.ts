import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isBeingWorkedOn, isTemporary, namesIn } from "./cache-owner.js";

const POLL_MS = 50;
const SUFFIX = ".lock";

/**
 * Waits until no one else is at work on `key`, or `done()`. The lock only saves work: a holder that was killed does not
 * block, and if two hold it at once (it cannot be known whether the first still lives) both results are right.
 * @param temporary the caller's own folder within `root`; it tells others who holds the lock
 * @returns whether the lock was obtained; false: `done()` became true while waiting
 */
export async function acquire(root: string, key: string, temporary: string, done: () => boolean): Promise<boolean> {
  const path = join(root, key + SUFFIX);
  while (!done()) {
    try {
      writeFileSync(path, temporary, { flag: "wx" });
      return true;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
    const holder = readLock(path);
    if (holder && isBeingWorkedOn(root, holder.temporary, holder.since)) await sleep(POLL_MS);
    else rmSync(path, { force: true });
  }
  return false;
}

/** Gives the lock back if it is still the caller's. */
export function release(root: string, key: string, temporary: string): void {
  const path = join(root, key + SUFFIX);
  if (readLock(path)?.temporary === temporary) rmSync(path, { force: true });
}

function readLock(path: string): { temporary: string; since: number } | null {
  try {
    return { temporary: readFileSync(path, "utf8"), since: statSync(path).mtimeMs };
  } catch {
    return null;
  }
}

/** Removes the locks of processes that were killed. */
export function removeStaleLocks(root: string): void {
  for (const name of namesIn(root).filter((name) => name.endsWith(SUFFIX))) {
    const holder = readLock(join(root, name));
    if (holder && isTemporary(holder.temporary) && !isBeingWorkedOn(root, holder.temporary, holder.since))
      rmSync(join(root, name), { force: true });
  }
}
