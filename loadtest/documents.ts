import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";

export interface Document {
  /** The file's name, without its folder and ending. */
  readonly name: string;
  readonly text: string;
}

/**
 * Texts of files, and of the .txt files of folders by name.
 * @param flag that names them
 * @throws Error that names the path: missing, no .txt file in it, empty, not UTF-8.
 */
export function readDocuments(paths: readonly string[], flag = "text"): Document[] {
  return paths
    .flatMap((path) => filesOf(path, flag))
    .map((path) => {
      const text = readText(path, flag);
      if (text.trim() === "") throw new Error(`--${flag} ${path} is empty`);
      return { name: basename(path).replace(/\.txt$/, ""), text };
    });
}

/** Tells documents from others, in this order. */
export function fingerprint(documents: readonly Document[]): string {
  const hash = createHash("sha256");
  for (const { text } of documents) hash.update(`${text.length}:`).update(text);
  return hash.digest("hex").slice(0, 16);
}

function filesOf(path: string, flag: string): string[] {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new Error(`--${flag} ${path} does not exist`);
  if (!found.isDirectory()) return [path];
  const files = readdirSync(path)
    .filter((name) => name.endsWith(".txt"))
    .sort();
  if (files.length === 0) throw new Error(`--${flag} ${path} is a folder without .txt files`);
  return files.map((name) => join(path, name));
}

function readText(path: string, flag: string): string {
  const bytes = readFileSync(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new Error(`--${flag} ${path} is not UTF-8`, { cause: error });
  }
}
