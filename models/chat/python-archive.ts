import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { packageRoot } from "../package-root.js";

/** Folder of the interpreter, an npm package. */
export const pyodideFolder = (): string => dirname(createRequire(import.meta.url).resolve("pyodide"));

/** A file of models/chat/python. */
export const readPython = (name: string): Buffer => readFileSync(join(packageRoot(), "models/chat/python", name));

/**
 * Where `npm run build` puts Python's library and Jinja as bytecode, with which an interpreter starts in a third of the
 * time. Its name changes with what it is made of.
 */
export function compiledArchive(): string {
  const hash = createHash("sha256")
    .update(readFileSync(join(pyodideFolder(), "package.json")))
    .update(readPython("jinja2.zip"))
    .update(readPython("compile_python.py"));
  const name = `python-${hash.digest("hex").slice(0, 12)}.zip`;
  return join(dirname(fileURLToPath(import.meta.url)), name);
}
