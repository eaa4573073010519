import { createHash, randomBytes } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { threadId } from "node:worker_threads";

/** How long a folder whose owner cannot be asked (other machine, container or thread) counts as being worked on, ms. */
const SILENCE_MS = 5_000;
/** And how long until it is removed, ms. */
const ABANDONED_MS = 3_600_000;

const TEMPORARY = /^\.tmp-([0-9a-f]{8})-(\d+)-(\d+)-(\d+)-[0-9a-f]{12}$/;

/** This machine since it was started, and this container: process ids mean something only within it. */
const machine = createHash("sha256")
  .update([hostname(), textOf("/proc/sys/kernel/random/boot_id"), pidNamespace()].join("\n"))
  .digest("hex")
  .slice(0, 8);

/** A new name for a folder that is being filled; it says who fills it. */
export const temporaryName = (): string =>
  `.tmp-${machine}-${process.pid}-${startOf(process.pid)}-${threadId}-${randomBytes(6).toString("hex")}`;

/** Whether a name is one of `temporaryName`'s, whoever made it. */
export const isTemporary = (name: string): boolean => TEMPORARY.test(name);

/** Whether the maker of a temporary name may still be at work in `root`; `since`: when it was last seen, ms since 1970. */
export function isBeingWorkedOn(root: string, name: string, since = 0): boolean {
  const owner = ownerState(name);
  if (owner !== "unknown") return owner === "alive";
  return Date.now() - Math.max(since, isTemporary(name) ? lastWrite(join(root, name)) : 0) < SILENCE_MS;
}

/** Removes what processes that were killed left behind. Never fails: what cannot be removed stays. */
export function removeAbandoned(root: string): void {
  for (const name of namesIn(root)) {
    if (!isTemporary(name)) continue;
    const owner = ownerState(name);
    if (owner === "alive" || (owner === "unknown" && Date.now() - lastWrite(join(root, name)) < ABANDONED_MS)) continue;
    try {
      rmSync(join(root, name), { recursive: true, force: true });
    } catch {}
  }
}

function ownerState(name: string): "alive" | "dead" | "unknown" {
  const [, host, pid, start, thread] = TEMPORARY.exec(name) ?? [];
  if (host !== machine) return "unknown";
  if (!isRunning(Number(pid)) || startOf(Number(pid)) !== start) return "dead";
  return Number(pid) === process.pid && Number(thread) !== threadId ? "unknown" : "alive";
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** When a process began, in the kernel's ticks: tells it from a later one with the same id. 0 where the system has no /proc. */
function startOf(pid: number): string {
  const stat = textOf(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "0";
}

function lastWrite(path: string): number {
  const times = [path, ...namesIn(path).map((name) => join(path, name))].map(
    (each) => lstatSync(each, { throwIfNoEntry: false })?.mtimeMs ?? 0,
  );
  return Math.max(...times);
}

/** The names in a folder; none if it cannot be read. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}
