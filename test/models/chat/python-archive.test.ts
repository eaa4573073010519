import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { compiledArchive } from "../../../models/chat/python-archive.js";

test("npm run build compiles what an interpreter of templates imports, and leaves the rest of the library as it is", () => {
  const archive = readFileSync(compiledArchive());
  for (const compiled of ["encodings/__init__", "jinja2/environment", "markupsafe/__init__"]) {
    expect(archive.includes(`${compiled}.pyc`)).toBe(true);
    expect(archive.lastIndexOf(`${compiled}.py`)).toBe(archive.lastIndexOf(`${compiled}.pyc`));
  }
  expect(archive.includes("this.py")).toBe(true);
  expect(archive.includes("this.pyc")).toBe(false);
});
