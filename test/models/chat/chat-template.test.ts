import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { z } from "zod";
import { type Conversation, compileChatTemplate, TemplateRefusal } from "../../../models/chat/chat-template.js";
import { strftime } from "../../../models/chat/strftime.js";

const Golden = z.object({
  models: z.array(
    z.object({
      name: z.string(),
      template: z.string(),
      tokens: z.record(z.string(), z.string()),
      cases: z.array(
        z.object({
          name: z.string(),
          messages: z.array(z.object({ role: z.string(), content: z.string() })),
          add_generation_prompt: z.boolean(),
          text: z.string().optional(),
          error: z.string().optional(),
        }),
      ),
    }),
  ),
});
const golden = Golden.parse(JSON.parse(readFileSync("test/golden/chat/templates.json", "utf8")));
const LIMITS = { ms: 10_000, length: 1 << 20 };

function render(template: string, asked: Partial<Conversation> = {}, tokens: Record<string, string> = {}): string {
  const conversation = { messages: [], addGenerationPrompt: false, continueFinalMessage: false, tools: null };
  return compileChatTemplate({ file: "f", template, tokens })({ ...conversation, variables: {}, ...asked }, LIMITS);
}
const turn = (role: string, content: string) => ({ role, content });

for (const { name, template, tokens, cases } of golden.models) {
  test(`${name}: conversations read as transformers renders them`, () => {
    expect(cases.length).toBeGreaterThan(11);
    for (const { messages, add_generation_prompt: addGenerationPrompt, text, error } of cases) {
      const rendered = () => render(template, { messages, addGenerationPrompt }, tokens);
      if (error === undefined) expect(rendered()).toBe(text);
      else expect(rendered).toThrow(new TemplateRefusal(error));
    }
  });
}

test("special tokens, tools and variables of the request are there, tools as JSON in Python's spelling", () => {
  const tools = [{ name: "größe", strict: true, of: [1, 2.5, null] }];
  const template = "{{ bos_token }}{{ tools | tojson }}{{ mood }}{{ documents is none }}{{ pad_token is defined }}";
  expect(render(template, { tools, variables: { mood: "calm" } }, { bos_token: "<s>" })).toBe(
    '<s>[{"name": "größe", "strict": true, "of": [1, 2.5, null]}]calmTrueFalse',
  );
  expect(render("{{ tools is none }}{{ bos_token }}{{ tools }}")).toBe("TrueNone");
});

test("a developer's message counts as the system's where the template knows no developers", () => {
  const messages = [turn("developer", "x")];
  expect(render("{{ messages[0].role }}", { messages })).toBe("system");
  expect(render("{# developer #}{{ messages[0].role }}", { messages })).toBe("developer");
});

test("a message that is continued ends the text, trimmed where the template trims", () => {
  const messages = [turn("user", "The end."), turn("assistant", " The end. ")];
  const asked = { messages, continueFinalMessage: true };
  expect(render("{% for m in messages %}[{{ m.content }}]{% endfor %}", asked)).toBe("[The end.][ The end. ");
  expect(render("{% for m in messages %}[{{ m.content | trim }}]{% endfor %}", asked)).toBe("[The end.][The end.");
  expect(() => render("{{ messages[0].content }}", asked)).toThrow(TemplateRefusal);
});

test("ranges are as long as the sandbox of transformers allows, and count as Python's", () => {
  const join = (range: string) => render(`{{ range(${range}) | join(',') }}`);
  expect([join("3"), join("1, 4"), join("5, 0, -2"), join("2, 2")]).toEqual(["0,1,2", "1,2,3", "5,3,1", ""]);
  expect(render("{{ range(100000) | length }}")).toBe("100000");
  for (const range of ["100001", "0, 1, 0", "1.5", "'a'"]) expect(() => join(range)).toThrow(/range/);
});

test("dates are English on every machine", () => {
  const date = new Date(2024, 1, 5, 15, 4, 9);
  expect(strftime(date, "%d %b %Y, %A %B %-d %e, %H:%M:%S %-I %p 100%%")).toBe(
    "05 Feb 2024, Monday February 5  5, 15:04:09 3 PM 100%",
  );
  expect(() => strftime(date, "%Q")).toThrow(/%Q/);
  expect(render("{{ strftime_now('%Y') }}")).toMatch(/^\d{4}$/);
});

test("a part of what is undefined is an error, as in Jinja, and an undefined value alone is nothing", () => {
  expect(render("[{{ nothing }}{{ messages.nothing }}]")).toBe("[]");
  expect(() => render("{{ nothing.at }}")).toThrow(/'nothing'/);
  expect(() => render("{{ messages[0].role }}")).toThrow(/undefined/);
});
