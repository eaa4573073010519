import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SetupError } from "../../runtime/contract/errors.js";

/** Names the process that works in a folder. */
const HOLDER_FILE = "running.pid";

/**
 * Keeps a folder, which is made, for this process until it is disposed. One that was killed holds nothing any more.
 * @throws SetupError where another process works there, or the folder cannot be written to
 */
export function holdFolder(folder: string): Disposable {
  const path = join(folder, HOLDER_FILE);
  try {
    mkdirSync(folder, { recursive: true });
    if (!wroteNew(path)) {
      const holder = Number(readFileSync(path, "utf8"));
      if (holder !== process.pid && isRunning(holder))
        throw new SetupError(`${folder} is in use by process ${holder}; if that is none of ours, delete ${path}`);
      writeFileSync(path, String(process.pid));
    }
  } catch (error) {
    if (error instanceof SetupError) throw error;
    throw new SetupError(`${folder} cannot be used: ${error instanceof Error ? error.message : error}`);
  }
  return { [Symbol.dispose]: () => rmSync(path, { force: true }) };
}

/** false: it is there already. */
function wroteNew(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return codeOf(error) === "EPERM"; // somebody else's
  }
}

const codeOf = (error: unknown): unknown => (error instanceof Error && "code" in error ? error.code : undefined);
