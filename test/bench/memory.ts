import { readFileSync } from "node:fs";

/** Memory of this process in bytes: in all, of its own (anonymous), and of mapped files. Zero where the system does not say. */
export function memory(pid: number | "self" = "self"): { rss: number; anonymous: number; file: number } {
  let status = "";
  try {
    status = readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return { rss: process.memoryUsage.rss(), anonymous: 0, file: 0 };
  }
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1024;
  return { rss: field("VmRSS"), anonymous: field("RssAnon"), file: field("RssFile") };
}

/** Of a process and those that it started. */
export function memoryWithChildren(pid: number): ReturnType<typeof memory> {
  const own = memory(pid);
  return childrenOf(pid)
    .map(memoryWithChildren)
    .reduce(
      (sum, each) => ({
        rss: sum.rss + each.rss,
        anonymous: sum.anonymous + each.anonymous,
        file: sum.file + each.file,
      }),
      own,
    );
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(/\s+/).filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Collects garbage; needs node --expose-gc. */
export function collectGarbage(): void {
  if (globalThis.gc === undefined) throw new Error("run with node --expose-gc");
  globalThis.gc();
}
