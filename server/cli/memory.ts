import { readFileSync } from "node:fs";

/** Memory of this process: all, what is its own, and what is mapped from files (weights), where the system tells apart. */
export function memoryLine(): string {
  const status = procStatus();
  const own = megabytes(status, "RssAnon");
  const mapped = megabytes(status, "RssFile");
  if (own === null || mapped === null) return `memory ${Math.round(process.memoryUsage.rss() / 1e6)} MB`;
  return `memory ${megabytes(status, "VmRSS")} MB: ${own} MB own (RssAnon), ${mapped} MB mapped files (RssFile)`;
}

function procStatus(): string {
  try {
    return readFileSync("/proc/self/status", "utf8");
  } catch {
    return "";
  }
}

function megabytes(status: string, field: string): number | null {
  const kibibytes = new RegExp(`^${field}:\\s*(\\d+) kB$`, "m").exec(status)?.[1];
  return kibibytes === undefined ? null : Math.round((Number(kibibytes) * 1024) / 1e6);
}
