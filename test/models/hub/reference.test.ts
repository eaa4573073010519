import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { cachedModels } from "../../../models/hub/cached-models.js";
import { findModel } from "../../../models/hub/find-model.js";
import { hubCache } from "../../../models/hub/hub-cache.js";
import { parseReference } from "../../../models/hub/reference.js";
import { COMMIT } from "./fake-hub.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-reference-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("a name on a hub", () => {
  test.each([
    ["org/name", "org/name", null, null],
    ["org/name@v1.0", "org/name", "v1.0", null],
    ["org/name@refs/pr/1", "org/name", "refs/pr/1", null],
    ["Org_1/na.me-7B/sub/file.gguf@main", "Org_1/na.me-7B", "main", "sub/file.gguf"],
  ])("%s", (text, repository, revision, file) => {
    expect(parseReference(text)).toEqual({ repository, revision, file });
  });

  test.each([
    "name",
    "/org/name",
    "./org/name",
    "../name",
    "org/..",
    "org/na--me",
    "org/name/../x",
    "org/name@../../x",
    "org/name@",
    "org/name/",
    "org\\name",
    "org/name/a\u001b[2J.gguf",
    `org/${"n".repeat(97)}`,
    "",
  ])("%j is none", (text) => {
    expect(parseReference(text)).toBe(null);
  });
});

test.each([
  [{ HF_HUB_CACHE: "/a", HF_HOME: "/b" }, "/a"],
  [{ HF_HOME: "/b", XDG_CACHE_HOME: "/c" }, "/b/hub"],
  [{ HF_HOME: "~/b", HOME: "/h" }, "/h/b/hub"],
  [{ XDG_CACHE_HOME: "/c" }, "/c/huggingface/hub"],
  [{ HOME: "/h" }, "/h/.cache/huggingface/hub"],
])("the cache of %j", (env, path) => {
  expect(hubCache(env)).toBe(resolve(path));
});

describe("a model", () => {
  const env = { HF_HUB_CACHE: folder };
  const snapshot = (name: string, files: readonly string[]) => {
    const path = join(folder, name, "snapshots", COMMIT);
    mkdirSync(path, { recursive: true });
    mkdirSync(join(folder, name, "refs", "refs", "pr"), { recursive: true });
    for (const file of files) writeFileSync(join(path, file), "");
    for (const ref of ["main", "refs/pr/1"]) writeFileSync(join(folder, name, "refs", ref), COMMIT);
    return path;
  };

  test("of a folder that exists wins over a name", () => {
    expect(findModel("models/default", env)).toEqual({ path: resolve("models/default"), name: "default" });
  });

  test("of a file is called as the file, without its ending", () => {
    expect(findModel("/x/y/tiny.Q8_0.gguf", env)).toEqual({ path: "/x/y/tiny.Q8_0.gguf", name: "tiny.Q8_0" });
    expect(findModel("/x/y/nowhere", env)).toEqual({ path: "/x/y/nowhere", name: "nowhere" });
  });

  test("that another tool pulled is found and listed; what is no model is not", () => {
    const path = snapshot("models--acme--pulled", ["config.json", "model.safetensors"]);
    snapshot("models--acme--words", ["vocab.txt"]);
    snapshot("datasets--acme--text", ["model.safetensors"]);
    mkdirSync(join(folder, "models--acme--cut", "blobs"), { recursive: true });
    writeFileSync(join(folder, "models--a-file"), "");
    expect(findModel("acme/pulled@refs/pr/1", env)).toEqual({ path, name: "acme/pulled" });
    expect(() => findModel("acme/cut", env)).toThrow("lambdatap pull acme/cut");
    expect(cachedModels(folder)).toMatchObject([
      { repository: "acme/pulled", commit: COMMIT, refs: ["main", "refs/pr/1"], format: "safetensors", path },
    ]);
    expect(cachedModels(join(folder, "nowhere"))).toEqual([]);
  });

  test("whose ref is damaged is not there", () => {
    snapshot("models--acme--damaged", ["model.safetensors"]);
    writeFileSync(join(folder, "models--acme--damaged", "refs", "main"), "../../../etc");
    expect(() => findModel("acme/damaged", env)).toThrow("no acme/damaged in the cache");
  });
});
