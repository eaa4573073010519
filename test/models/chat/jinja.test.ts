import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import type { Conversation } from "../../../models/chat/chat-template.js";
import { type Jinja, type Rendered, startJinja } from "../../../models/chat/jinja.js";
import { memberTexts } from "../../../server/json-members.js";

let jinja: Jinja;
beforeAll(async () => {
  jinja = await startJinja();
});
const LONGEST = 1 << 20;

type Asked = Partial<Omit<Conversation, "messages">> & { readonly messages?: unknown };
function outcome(
  template: string,
  { messages = [], ...asked }: Asked = {},
  tokens: Record<string, string> = {},
): Rendered {
  const usual = { addGenerationPrompt: false, continueFinalMessage: false, tools: null, variables: {} };
  const conversation = {
    ...usual,
    ...asked,
    messages: typeof messages === "string" ? messages : JSON.stringify(messages),
  };
  return jinja.render({ file: "f", template, tokens }, conversation, LONGEST);
}
function render(...asked: Parameters<typeof outcome>): string {
  const rendered = outcome(...asked);
  return rendered.type === "text" ? rendered.text : expect.fail(`${rendered.type}: ${rendered.message}`);
}
const turn = (role: string, content: unknown) => ({ role, content });

const Case = z.object({ template: z.string(), text: z.string().optional(), error: z.string().optional() });
const goldenText = readFileSync("test/golden/jinja/expressions.json", "utf8");
const golden = z
  .object({ groups: z.record(z.string(), z.array(Case)), continued: z.array(Case) })
  .parse(JSON.parse(goldenText));
const sent = memberTexts(goldenText);
const world = {
  messages: sent.get("messages") ?? "",
  variables: Object.fromEntries(memberTexts(sent.get("variables") ?? "")),
  addGenerationPrompt: true,
};

/** A text, or how it is refused: what a template cannot be compiled with, and what it raises itself, are told apart. */
const verdictOf = ({ text, error = "" }: z.infer<typeof Case>) =>
  text ??
  (/^Template(Syntax|Assertion)Error$/.test(error) ? "unsupported" : error === "TemplateError" ? "refused" : "failed");

describe("the text is the one that transformers makes", () => {
  for (const [name, cases] of Object.entries(golden.groups)) {
    test(`of ${name}`, () => {
      for (const each of cases) {
        if (/^{% (include|import|from|extends)/.test(each.template)) continue; // refused earlier than there
        const rendered = outcome(each.template, world, { bos_token: "<s>" });
        expect([each.template, rendered.type === "text" ? rendered.text : rendered.type]).toEqual([
          each.template,
          verdictOf(each),
        ]);
      }
    });
  }

  test("of a message that is continued", () => {
    for (const each of golden.continued) {
      const asked = { ...world, addGenerationPrompt: false, continueFinalMessage: true };
      const rendered = outcome(each.template, asked);
      expect(rendered.type === "text" ? rendered.text : rendered.type).toBe(each.text ?? "refused");
    }
  });
});

const Conversations = z.object({
  models: z.array(
    z.object({
      name: z.string(),
      template: z.string(),
      tokens: z.record(z.string(), z.string()),
      cases: z.array(
        z.object({
          messages: z.array(z.unknown()),
          add_generation_prompt: z.boolean(),
          text: z.string().optional(),
          error: z.string().optional(),
        }),
      ),
    }),
  ),
});
const { models } = Conversations.parse(JSON.parse(readFileSync("test/golden/chat/templates.json", "utf8")));

for (const { name, template, tokens, cases } of models) {
  test(`${name}: conversations read as transformers renders them`, () => {
    expect(cases.length).toBeGreaterThan(11);
    for (const { messages, add_generation_prompt: addGenerationPrompt, text, error = "" } of cases)
      expect(outcome(template, { messages, addGenerationPrompt }, tokens)).toEqual(
        text === undefined ? { type: "refused", message: error } : { type: "text", text },
      );
  });
}

test("special tokens, tools and variables of the request are there", () => {
  const tools = '[{"name": "größe", "strict": true, "of": [1, 2.50, null]}]';
  const template = "{{ bos_token }}{{ tools | tojson }}{{ mood }}{{ documents is none }}{{ pad_token is defined }}";
  expect(render(template, { tools, variables: { mood: '"calm"' } }, { bos_token: "<s>" })).toBe(
    '<s>[{"name": "größe", "strict": true, "of": [1, 2.5, null]}]calmTrueFalse',
  );
  expect(render("{{ tools is none }}{{ bos_token }}{{ tools }}")).toBe("TrueNone");
});

test("numbers, the order of keys and repeated keys are those of the JSON that was sent", () => {
  const value = '{"10": 1.0, "2": 12345678901234567890, "a": 1e2, "a": -0.0, "__proto__": {"b": 2.50}}';
  const read = '{"10": 1.0, "2": 12345678901234567890, "a": -0.0, "__proto__": {"b": 2.5}}';
  const messages = `[{"role": "user", "content": "x", "more": ${value}}]`;
  expect(render("{{ messages[0].more | tojson }}", { messages })).toBe(read);
  expect(render("{{ kept | tojson }}", { variables: { kept: value } })).toBe(read);
  const call = [{ function: { name: "f", arguments: value } }];
  const calling = "{{ messages[0].tool_calls[0].function.arguments | tojson }}";
  expect(render(calling, { messages: [{ role: "assistant", tool_calls: call }] })).toBe(read);
});

test("a developer's message counts as the system's where the template knows no developers", () => {
  const messages = [turn("developer", "x")];
  expect(render("{{ messages[0].role }}", { messages })).toBe("system");
  expect(render("{# developer #}{{ messages[0].role }}", { messages })).toBe("developer");
  expect(render("{{ messages[0].role }}", { messages: [turn("function", "x")] })).toBe("tool");
});

test("what is null in a message is not defined, but for content: none beside calls, and alone an empty text", () => {
  const message = { role: "assistant", content: null, name: null };
  const template =
    "{% set m = messages[0] %}{{ m.name is defined }} {{ m.tool_calls is defined }} {{ m.content is none }}";
  const calling = { ...message, tool_calls: [{ function: { name: "f", arguments: "" } }] };
  expect(render(template, { messages: [calling] })).toBe("False True True");
  expect(render(template, { messages: [{ ...message, tool_calls: [] }] })).toBe("False False False");
  expect(render("<{{ messages[0].content }}>", { messages: [message] })).toBe("<>");
});

test("a function's arguments are values, and of no text there are none", () => {
  const called = (args: unknown) => ({
    messages: [{ role: "assistant", content: "", tool_calls: [{ function: { name: "f", arguments: args } }] }],
  });
  const template = "{% for c in messages[0].tool_calls %}{{ c.type }} {{ c.function.arguments }}{% endfor %}";
  expect(render(template, called('{"a": true}'))).toBe("function {'a': True}");
  expect(render(template, called(" "))).toBe("function {}");
  expect(render(template, called({ a: null }))).toBe("function {'a': None}");
});

describe("parts of a content", () => {
  const messages = [
    turn("user", [
      { type: "text", text: "one " },
      { type: "refusal", refusal: "two" },
    ]),
  ];
  const PARTS = "{% for p in CONTENT %}[{{ p.type }}:{{ p.text }}]{% endfor %}";
  const over = (content: string) => `{% for m in messages %}${PARTS.replace("CONTENT", content)}{% endfor %}`;
  const READ = "[text:one ][text:two]";

  test("reach a template that loops over them, however it comes to them", () => {
    for (const template of [
      over("m.content"),
      over("m['content']"),
      over("m.get('content')"),
      over("m.content or []"),
      over("(m.content if m.content is not string else [])"),
      over("m.content | default([]) | list"),
      `{% for m in messages %}{% set c = m.content %}{% set d = c %}${PARTS.replace("CONTENT", "d")}{% endfor %}`,
      `{% macro all(x) %}${PARTS.replace("CONTENT", "x")}{% endmacro %}{{ all(messages[0].content) }}`,
      `{% macro all(x='') %}${PARTS.replace("CONTENT", "x")}{% endmacro %}{{ all(x=messages[0]['content']) }}`,
    ])
      expect([template, render(template, { messages })]).toEqual([template, READ]);
    expect(render("{{ messages[0].content | map(attribute='text') | join('+') }}", { messages })).toBe("one +two");
    expect(render("{{ messages[0].content | selectattr('type', 'eq', 'text') | list | length }}", { messages })).toBe(
      "2",
    );
    expect(render("{{ messages[0].content[0]['text'] }}|{{ messages[0].content[1].text }}", { messages })).toBe(
      "one |two",
    );
  });

  test("are joined by line breaks for one that takes strings, even if it looks whether it has one", () => {
    for (const template of [
      "{{ messages[0].content }}",
      "{% if messages[0].content is string %}{{ messages[0].content }}{% endif %}",
      "{% for line in messages[0].content.splitlines() %}{{ line }}{{ '\n' if not loop.last }}{% endfor %}",
      "{{ messages[0].content | trim }}",
    ])
      expect([template, render(template, { messages })]).toEqual([template, "one \ntwo"]);
  });

  test("stay a string where one was sent, which is read character by character", () => {
    const letters = "{% for c in messages[0].content %}{{ c }}.{% endfor %}";
    expect(render(letters, { messages: [turn("user", "aé😀")] })).toBe("a.é.😀.");
  });

  test("may be continued", () => {
    const asked = { messages, continueFinalMessage: true };
    expect(render(over("m.content"), asked)).toBe("[text:one ][text:two");
    expect(render("<{{ messages[0].content }}>", asked)).toBe("<one \ntwo");
    const calling = { ...turn("assistant", null), tool_calls: [{ function: { name: "f", arguments: "" } }] };
    const nothing = { messages: [calling], continueFinalMessage: true };
    expect(outcome("{{ messages[0].content }}", nothing).type).toBe("refused");
  });
});

test("thoughts have all the names that templates look for", () => {
  const template = "{{ messages[0].reasoning_content }} {{ messages[0].thinking }}";
  for (const name of ["reasoning_content", "reasoning", "thinking"])
    expect(render(template, { messages: [{ role: "assistant", content: "", [name]: "so" }] })).toBe("so so");
});

test("what cannot be compiled, or needs other files, is named", () => {
  const why = (template: string) => {
    const checked = jinja.check(template);
    expect(outcome(template)).toEqual(checked);
    return checked.type === "unsupported" ? checked.message : expect.fail(checked.type);
  };
  expect(why("{% launch %}")).toMatch(/unknown tag 'launch'.* \(line 1\)$/);
  expect(why("\n{{ 'a' | shout }}")).toMatch(/No filter named 'shout'.* \(line 2\)$/);
  expect(why("{{ 1 is loud }}")).toMatch(/No test named 'loud'/);
  for (const [tag, rest] of Object.entries({
    include: "'a'",
    extends: "'a'",
    import: "'a' as a",
    from: "'a' import b",
  }))
    expect(why(`{% if f %}{% ${tag} ${rest} %}{% endif %}`)).toContain(`{% ${tag} %}`);
  expect(why(`{% ${"x".repeat(10_000)} %}`).length).toBeLessThan(600);
  expect(jinja.check("{{ messages }}")).toEqual({ type: "accepted" });
});

test("what a template raises is told as it says it, at a bounded length", () => {
  expect(outcome("{{ raise_exception('roles must alternate') }}")).toEqual({
    type: "refused",
    message: "roles must alternate",
  });
  const long = outcome("{{ raise_exception('x' * 100000) }}");
  expect(long.type === "refused" && long.message.length).toBeLessThan(600);
});

test("a template that fails on this conversation alone refuses it; one that fails on any is broken", () => {
  const call = { id: "c", type: "function", function: { name: "f", arguments: "{}" } };
  const messages = [turn("user", "x"), { role: "assistant", content: null, tool_calls: [call] }];
  expect(outcome("{% for m in messages %}{{ m.content.strip() }}{% endfor %}", { messages })).toEqual({
    type: "refused",
    message: "'None' has no attribute 'strip'",
  });
  expect(outcome("{% for m in messages %}{{ m.content + '.' }}{% endfor %}", { messages })).toEqual({
    type: "refused",
    message: expect.stringMatching(/^TypeError: unsupported operand/),
  });
  expect(outcome("{{ 1 + 'a' }}", { messages })).toMatchObject({ type: "failed", message: /^TypeError: / });
});

test("a text that is longer than its limit is stopped", () => {
  const lines = "{% for a in range(10000) %}{% for b in range(1000) %}aaaaaaaaaaaaaaa\n{% endfor %}{% endfor %}";
  expect(outcome(lines)).toEqual({ type: "failed", message: `it makes a text of more than ${LONGEST} characters` });
});

test("what a template asks for beyond the memory is refused, and the next one is rendered", () => {
  const doubled = (use: string) =>
    `{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ${use} }}`;
  for (const template of [
    doubled("ns.s"),
    "{{ ('ab' * 100000000) | upper | length }}",
    "{% set ns = namespace(s=[1, 2]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[]) %}{% for i in range(1000) %}{% set ns.s = ns.s + [range(100000) | list] %}{% endfor %}",
    "{{ 'a\nb' | indent(400000000) | length }}",
    "{% if messages | length == 0 %}{{ 'x' * 10 ** 9 }}{% endif %}",
    "{{ [1, 2, 3, 4] | tojson(indent=100000000) }}",
  ])
    expect([template, outcome(template).type]).toEqual([template, "exhausted"]);
  expect(render("{{ 1 }}")).toBe("1");
});

test("a template cannot leave the sandbox", () => {
  for (const reach of [
    "''.__class__",
    "''['__class__']",
    "(''|attr('__class__'))",
    "messages.__init__.__globals__",
    "raise_exception.__globals__",
    "namespace.__init__.__globals__",
    "namespace(__class__=1)",
    "dict.__class__",
    "strftime_now.__globals__",
    "'{0.__class__}'.format(1)",
    "''.format.__self__.__class__",
    "self._TemplateReference__context",
    "cycler.__init__.__globals__",
    "range.__globals__",
  ])
    expect([reach, outcome(`{{ ${reach}.mro() }}`).type]).toEqual([reach, "failed"]);
  expect(render("{{ js is defined }}{{ open is defined }}{{ process is defined }}")).toBe("FalseFalseFalse");
});
