import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readTemplateFile } from "../../../models/chat/hugging-face-chat-template.js";
import { ModelFormatError } from "../../../models/errors.js";
import { openModelSource } from "../../../models/model-source.js";

const root = mkdtempSync(join(tmpdir(), "lambdatap-templates-"));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;

/** The template of a folder with these files; objects are written as JSON. */
function templateOf(files: Record<string, unknown>) {
  const folder = join(root, String(folders++));
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(folder, name), typeof content === "string" ? content : JSON.stringify(content));
  return openModelSource(folder).chatTemplate();
}

test("special tokens stand as strings, as objects, or not at all", () => {
  const found = templateOf({
    "tokenizer_config.json": { chat_template: "t", bos_token: "<s>", eos_token: { content: "</s>" }, pad_token: null },
  });
  expect(found).toMatchObject({ template: "t", tokens: { bos_token: "<s>", eos_token: "</s>" } });
  expect(found?.file).toMatch(/tokenizer_config\.json$/);
});

test("the .jinja file wins over the config, the config over chat_template.json", () => {
  const config = { "tokenizer_config.json": { chat_template: "config", bos_token: "<s>" } };
  const json = { "chat_template.json": { chat_template: "json" } };
  const all = { ...config, ...json, "chat_template.jinja": "jinja" };
  expect(templateOf(all)).toMatchObject({ template: "jinja", tokens: { bos_token: "<s>" } });
  expect(templateOf({ ...config, ...json })?.template).toBe("config");
  expect(templateOf(json)).toMatchObject({ template: "json", tokens: {} });
});

test("of several templates the default one is taken", () => {
  const named = (...names: string[]) => ({
    "tokenizer_config.json": { chat_template: names.map((name) => ({ name, template: `of ${name}` })) },
  });
  expect(templateOf(named("tool_use", "default"))?.template).toBe("of default");
  expect(templateOf(named("tool_use"))).toBe(null);
  expect(() => templateOf(named("default", "default"))).toThrow(ModelFormatError);
});

test("no template, and an empty one, are none", () => {
  expect(templateOf({})).toBe(null);
  expect(templateOf({ "tokenizer_config.json": { bos_token: "<s>" } })).toBe(null);
  expect(templateOf({ "tokenizer_config.json": { chat_template: "" } })).toBe(null);
  expect(templateOf({ "chat_template.jinja": "" })).toBe(null);
});

test("what is no template is refused by file and field", () => {
  for (const chat_template of [7, ["t"], [{ name: "default" }], "x".repeat((1 << 20) + 1)])
    expect(() => templateOf({ "tokenizer_config.json": { chat_template } })).toThrow(
      /tokenizer_config\.json: chat_template/,
    );
  expect(() => templateOf({ "tokenizer_config.json": { bos_token: 1 } })).toThrow(/bos_token/);
  expect(() => templateOf({ "tokenizer_config.json": "{" })).toThrow(/tokenizer_config\.json/);
  expect(() => templateOf({ "chat_template.jinja": "x".repeat((1 << 20) + 1) })).toThrow(/chat_template\.jinja/);
});

test("a file that is given instead must be there, in UTF-8, and not empty", () => {
  const path = join(root, "given.jinja");
  expect(() => readTemplateFile(path)).toThrow(/given\.jinja: there is no such file/);
  for (const content of [Buffer.from([0xff, 0xfe]), ""]) {
    writeFileSync(path, content);
    expect(() => readTemplateFile(path)).toThrow(ModelFormatError);
  }
  writeFileSync(path, "{{ messages }}\n");
  expect(readTemplateFile(path)).toBe("{{ messages }}\n");
});
