import { dirname, join, relative } from "node:path";
import { createVitest } from "vitest/node";
import { packageRoot } from "../../models/package-root.js";
import { changedFiles } from "./changed-files.js";
import { DIST, emittedModules } from "./emitted-modules.js";
import { nearestFirst } from "./nearest-first.js";
import { type RelatedTest, relatedTests } from "./related-tests.js";

/**
 * `npm run test:fast`: the tests that depend on what was changed, nearest first, for as long as one likes to wait after every
 * change. It says what it has left out.
 */
const LIMIT_MS = 15_000;

process.chdir(packageRoot());
const related = relatedTests(emittedModules(), changedFiles());
if (related.length === 0) process.stdout.write("No tests depend on what was changed.\n");
else process.stdout.write(leftOut(await run(related), related.length));

/** Runs files of tests; resolves to those that were not at their end when the time was. */
async function run(tests: readonly RelatedTest[]): Promise<string[]> {
  const files = tests.map(({ path }) => join(DIST, path));
  const vitest = await createVitest("test", {
    watch: false,
    include: files,
    sequence: { sequencer: nearestFirst(tests) },
  });
  let left: string[] = [];
  const timer = setTimeout(() => {
    const ended = vitest.state.getTestModules().filter((module) => ["passed", "failed"].includes(module.state()));
    left = files.filter((file) => !ended.some(({ moduleId }) => moduleId === file));
    void vitest.cancelCurrentRun("keyboard-input");
  }, LIMIT_MS);
  await vitest.start();
  clearTimeout(timer);
  await vitest.close();
  return left;
}

function leftOut(files: readonly string[], of: number): string {
  if (files.length === 0) return "";
  const folders = new Map<string, number>();
  for (const folder of files.map((file) => dirname(relative(DIST, file))))
    folders.set(folder, (folders.get(folder) ?? 0) + 1);
  const counts = [...folders].map(([folder, count]) => `${folder} ${count}`);
  return `\n${files.length} of ${of} files were not at their end after ${LIMIT_MS / 1000} s: ${counts.join(", ")}\n`;
}
