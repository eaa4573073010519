import { posix } from "node:path";

/** A file of tests that depends on a change, and over how many imports: 0 where it was itself changed. */
export interface RelatedTest {
  readonly path: string;
  readonly distance: number;
}

/** A module that another imports, or starts as a thread or a process. */
const REFERENCE = /(?:\bfrom |\bimport |\bimport\(|\bnew URL\()"(\.{1,2}\/[^"]+\.js)"/g;
/** Folders whose names do not tell what is in them. */
const COMMON = new Set(["test", "models", "golden"]);

/**
 * The tests that depend on changed files, nearest first. On a source depends what imports it or starts it; on any other
 * file what names it, or a folder that it is in.
 * @param modules text of every emitted module by its path, such as `runtime/ort/tensor.js`
 * @param changed paths such as `runtime/ort/tensor.ts` and `models/default/config.json`
 */
export function relatedTests(modules: ReadonlyMap<string, string>, changed: readonly string[]): RelatedTest[] {
  const importers = importersOf(modules);
  const distances = new Map<string, number>();
  let reached = changed.map((path) => (path.endsWith(".ts") ? path.replace(/ts$/, "js") : path));
  for (let distance = 0; reached.length > 0; distance++) {
    for (const path of reached) distances.set(path, distance);
    const next = reached.flatMap((path) =>
      path.endsWith(".js") ? (importers.get(path) ?? []) : namersOf(modules, path),
    );
    reached = [...new Set(next)].filter((path) => !distances.has(path));
  }
  return [...distances]
    .map(([path, distance]) => ({ path, distance }))
    .filter(({ path }) => path.endsWith(".test.js") && modules.has(path))
    .sort((a, b) => a.distance - b.distance);
}

function importersOf(modules: ReadonlyMap<string, string>): Map<string, string[]> {
  const importers = new Map<string, string[]>();
  for (const [path, text] of modules)
    for (const [, reference = ""] of text.matchAll(REFERENCE)) {
      const imported = posix.join(posix.dirname(path), reference);
      importers.set(imported, [...(importers.get(imported) ?? []), path]);
    }
  return importers;
}

/** Modules in which the name of a file or of one of its folders stands alone, or as a part of a path. */
function namersOf(modules: ReadonlyMap<string, string>, path: string): string[] {
  const names = path.split("/").filter((name) => !COMMON.has(name));
  const quoted = names.map((name) => name.replaceAll(/[^\w-]/g, "\\$&")).join("|");
  const named = new RegExp(`["'\`/](?:${quoted})["'\`/]`);
  return [...modules].filter(([, text]) => named.test(text)).map(([module]) => module);
}
