import { expect, test } from "vitest";
import { emittedModules } from "./emitted-modules.js";
import { relatedTests } from "./related-tests.js";

const modules = new Map(
  Object.entries({
    "runtime/tensor.js": "export const tensor = 1;",
    "runtime/session.js": 'import { tensor } from "./tensor.js";',
    "runtime/thread.js": 'export * from "./session.js";',
    "runtime/engine.js": 'new Worker(new URL("./thread.js", import.meta.url));',
    "server/main.js": 'const run = async () => (await import("../runtime/engine.js")).run();',
    "test/runtime/tensor.test.js": 'import "../../runtime/tensor.js";',
    "test/runtime/session.test.js": 'import { load } from "../../runtime/session.js";',
    "test/server/main.test.js": 'fork(fileURLToPath(new URL("../../server/main.js", import.meta.url)));',
    "test/chat.test.js": 'readFileSync("test/golden/chat/templates.json"); goldenFolder("architectures/llama")',
    "test/other.test.js": 'const templates = "of templates.js and llama2";',
  }),
);
const nearest = (...changed: string[]) => relatedTests(modules, changed).map(({ path, distance }) => [path, distance]);

test("a change reaches the tests of all that imports it, or starts it as a thread or a process, nearest first", () => {
  expect(nearest("runtime/tensor.ts")).toEqual([
    ["test/runtime/tensor.test.js", 1],
    ["test/runtime/session.test.js", 2],
    ["test/server/main.test.js", 5],
  ]);
  expect(nearest("runtime/engine.ts", "test/runtime/session.test.ts")).toEqual([
    ["test/runtime/session.test.js", 0],
    ["test/server/main.test.js", 2],
  ]);
});

test("a source that was removed is still imported", () => {
  const without = new Map([...modules].filter(([path]) => path !== "runtime/tensor.js"));
  expect(relatedTests(without, ["runtime/tensor.ts"])).toHaveLength(3);
  expect(nearest("test/gone.test.ts")).toEqual([]);
});

test("a file of another kind reaches the tests that name it, or a folder that it is in", () => {
  expect(nearest("test/golden/chat/templates.json")).toEqual([["test/chat.test.js", 1]]);
  expect(nearest("test/golden/architectures/llama/config.json")).toEqual([["test/chat.test.js", 1]]);
  expect(nearest("docs/notes.md")).toEqual([]);
});

test("in this repository a thread of a process is reached", () => {
  const reached = relatedTests(emittedModules(), ["runtime/prompts/template-thread.ts"]).map(({ path }) => path);
  expect(reached).toContain("test/runtime/prompts/template-renderer.test.js");
  expect(reached).not.toContain("test/runtime/ort/tensor.test.js");
});
