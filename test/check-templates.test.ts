import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-check-templates-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a text that differs is shown and fails the check; what is equal, and what is refused, do not", () => {
  const template =
    "{{ bos_token }}{% for m in messages %}{{ m.content or raise_exception('empty') }}{{ m.n | tojson if m.n }}{{ mood }}{% endfor %}";
  const conversations = `{
    "plain": {"messages": [{"role": "user", "content": "Hi", "n": 1.0}], "variables": {"mood": "!"}},
    "other": {"messages": [{"role": "user", "content": "Hi"}]},
    "empty": {"messages": [{"role": "user", "content": ""}]}
  }`;
  const expected = {
    own: { plain: { text: "<s>Hi1.0!" }, other: { text: "Ho" }, empty: { refused: "TemplateError" } },
  };
  mkdirSync(join(folder, "templates"));
  writeFileSync(join(folder, "templates", "own.jinja"), template);
  writeFileSync(
    join(folder, "conversations.json"),
    `{"tokens": {"bos_token": "<s>"}, "conversations": ${conversations}}`,
  );
  writeFileSync(join(folder, "expected.json"), JSON.stringify(expected));
  const { status, stdout } = spawnSync("node", ["dist/test/check-templates.js", folder], { encoding: "utf8" });
  expect(stdout.trim().split("\n")).toEqual([
    "own: 1 equal, 1 refused, 1 different",
    '  other: "<s>Hi" instead of "Ho"',
    "  empty: refused: empty",
    "1 equal, 1 refused, 1 different",
  ]);
  expect(status).toBe(1);
});
