import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { packageRoot } from "../../models/package-root.js";

/** Where `tsc` emits. */
export const DIST = join(packageRoot(), "dist");

/** Text of every emitted module by its path; those whose source is gone are left out. */
export function emittedModules(): Map<string, string> {
  const paths = readdirSync(DIST, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".js") && existsSync(join(packageRoot(), path.replace(/js$/, "ts"))))
    .map((path) => [path.replaceAll(sep, "/"), readFileSync(join(DIST, path), "utf8")] as const);
  return new Map(paths);
}
