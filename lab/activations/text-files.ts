import { readdirSync, realpathSync, type Stats, statSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { SetupError } from "../../runtime/contract/errors.js";

/** .txt: texts as they are; .jsonl: an object with a `text` per line. */
const TEXT_ENDINGS: readonly string[] = [".txt", ".jsonl"];

/**
 * The text files that are named, and those of named folders and the folders in them, by name. Links are followed; a file that
 * is found twice, by whatever names, is there once: else what is held out of one would be trained on in the other.
 * @throws SetupError naming the path: missing, unreadable, of another kind, a folder without text files.
 */
export function textFiles(paths: readonly string[]): string[] {
  if (paths.length === 0) throw new SetupError("name files or folders of text with --text");
  const files = new Map<string, string>();
  for (const path of paths.flatMap(filesAt)) {
    const place = realpathSync(path);
    if (!files.has(place)) files.set(place, resolve(path));
  }
  return [...files.values()];
}

function filesAt(path: string): string[] {
  const found = readable(path, () => statSync(path, { throwIfNoEntry: false }));
  if (found === undefined) throw new SetupError(`--text ${path} does not exist`);
  if (found.isDirectory()) {
    const files = filesIn(path, []);
    if (files.length === 0) throw new SetupError(`--text ${path} is a folder without .txt or .jsonl files`);
    return files;
  }
  if (!found.isFile()) throw new SetupError(`--text ${path} is not a regular file`);
  if (!TEXT_ENDINGS.includes(extname(path)))
    throw new SetupError(`--text ${path} is neither .txt nor .jsonl, which are the kinds of text that are read`);
  return [path];
}

/**
 * Files of other kinds are passed over, and links that lead nowhere or in circles.
 * @param above folders that this one lies in
 */
function filesIn(folder: string, above: readonly string[]): string[] {
  const place = realpathSync(folder);
  if (above.includes(place)) return [];
  const names = readable(folder, () => readdirSync(folder)).sort((a, b) => (a < b ? -1 : 1));
  return names.flatMap((name) => {
    const path = join(folder, name);
    const found = entryAt(path);
    if (found?.isDirectory()) return filesIn(path, [...above, place]);
    return found?.isFile() && TEXT_ENDINGS.includes(extname(name)) ? [path] : [];
  });
}

/** undefined: a link that leads nowhere or in circles. */
function entryAt(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ELOOP") return undefined;
    throw unreadable(path, error);
  }
}

function readable<Found>(path: string, look: () => Found): Found {
  try {
    return look();
  } catch (error) {
    throw unreadable(path, error);
  }
}

const unreadable = (path: string, error: unknown): SetupError =>
  new SetupError(`--text ${path} cannot be read: ${error instanceof Error ? error.message : error}`);
