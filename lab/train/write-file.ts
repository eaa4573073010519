import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { SetupError } from "../../runtime/contract/errors.js";

/** Writes a file that appears whole or not at all, wherever the power fails. @throws SetupError naming it, and why it cannot be written */
export function writeFile(path: string, content: string | Uint8Array): void {
  const unfinished = `${path}.new`;
  try {
    const fd = openSync(unfinished, "w");
    try {
      writeFileSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    const reason = error instanceof Error ? error.message : String(error);
    throw new SetupError(`${path} cannot be written (${content.length} bytes): ${reason}`);
  }
}
