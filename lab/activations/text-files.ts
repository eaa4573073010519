import { readdirSync, statSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { SetupError } from "../../runtime/contract/errors.js";

/** .txt: texts as they are; .jsonl: an object with a `text` per line. */
export const TEXT_ENDINGS: readonly string[] = [".txt", ".jsonl"];

/**
 * The text files that are named, and those of named folders and the folders in them, by name; each once.
 * @throws SetupError naming the path: missing, of another kind, a folder without text files.
 */
export function textFiles(paths: readonly string[]): string[] {
  if (paths.length === 0) throw new SetupError("name files or folders of text with --text");
  return [...new Set(paths.flatMap((path) => filesAt(path)).map((path) => resolve(path)))];
}

function filesAt(path: string): string[] {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new SetupError(`--text ${path} does not exist`);
  if (found.isDirectory()) {
    const files = filesIn(path);
    if (files.length === 0) throw new SetupError(`--text ${path} is a folder without .txt or .jsonl files`);
    return files;
  }
  if (!found.isFile()) throw new SetupError(`--text ${path} is not a regular file`);
  if (!TEXT_ENDINGS.includes(extname(path)))
    throw new SetupError(`--text ${path} is neither .txt nor .jsonl, which are the kinds of text that are read`);
  return [path];
}

/** Files of other kinds are passed over. */
function filesIn(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true }).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesIn(path);
    const isText = TEXT_ENDINGS.includes(extname(entry.name));
    return isText && statSync(path, { throwIfNoEntry: false })?.isFile() ? [path] : [];
  });
}
