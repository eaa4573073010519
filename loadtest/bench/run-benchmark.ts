import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type BenchResult, readResult } from "./result.js";

/** Benchmarks run inside a process of their own, so that none finds the memory or the threads of another. */
export const benchmarkFile = (name: string): string =>
  fileURLToPath(new URL(`../../test/bench/${name}.js`, import.meta.url));

/**
 * Runs a benchmark to its end and returns what it measured; what it says of its progress goes to our stderr.
 * @throws Error where it fails or prints no result; the signal's reason when it aborts.
 */
export async function runBenchmark(file: string, signal: AbortSignal): Promise<BenchResult> {
  signal.throwIfAborted();
  const child = spawn(process.execPath, ["--expose-gc", file, "--json"], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true, // a group of its own, so that servers that it has started end with it
  });
  const stop = () => {
    if (child.pid !== undefined) process.kill(-child.pid);
  };
  signal.addEventListener("abort", stop, { once: true });
  const ended = new Promise<string>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, killedBy) => resolve(killedBy ?? String(code)));
  });
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  const how = await ended.finally(() => signal.removeEventListener("abort", stop));
  signal.throwIfAborted();
  if (how !== "0") throw new Error(`it ended with ${how}`);
  return readResult(printed);
}
