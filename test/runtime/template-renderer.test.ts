import { readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { z } from "zod";
import type { Conversation } from "../../models/chat/chat-template.js";
import { ChatTemplateFailed, InvalidRequest } from "../../runtime/errors.js";
import { TemplateRenderer } from "../../runtime/template-renderer.js";

const Hostile = z.object({
  cases: z.array(
    z.object({ name: z.string(), fault: z.string(), template: z.string(), reason_names: z.array(z.string()) }),
  ),
});
const hostile = Hostile.parse(JSON.parse(readFileSync("test/golden/chat/hostile.json", "utf8"))).cases;
/** Single steps that ask for more memory than there is; in a thread some of them would end the server. */
const GREEDY = {
  "long upper case": doubled("{{ ns.s | upper | length }}", 27),
  "reversed text": doubled("{{ ns.s[::-1] | length }}", 27),
  "split text": doubled("{{ ns.s.split('x') | length }}", 27),
  "doubled list": "{% set ns = namespace(s=[1, 2]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
  "nested lists":
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
  "lists that are kept":
    "{% set ns = namespace(s=[]) %}{% for i in range(1000) %}{% set ns.s = ns.s + [range(100000)] %}{% endfor %}",
  "wide indent": "{{ 'a\nb' | indent(400000000) | length }}",
  "wide JSON": "{{ [1, 2, 3] | tojson(indent=100000000) }}",
};
function doubled(use: string, times: number): string {
  return `{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(${times}) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}${use}`;
}

const asked: Conversation = {
  messages: [{ role: "user", content: "Hi" }],
  addGenerationPrompt: true,
  continueFinalMessage: false,
  tools: null,
  variables: {},
};
const open: TemplateRenderer[] = [];
afterEach(() => {
  for (const renderer of open.splice(0)) renderer.close();
});
function rendererOf(template: string): TemplateRenderer {
  const renderer = new TemplateRenderer({ file: "model.gguf", template, tokens: {} });
  open.push(renderer);
  return renderer;
}

/** Refused soon, with the server's memory as it was. The clock is generous: neighbours share the machine. */
async function refused(template: string): Promise<Error> {
  const before = process.memoryUsage.rss();
  const began = performance.now();
  const error = await rendererOf(template)
    .render(asked)
    .then(
      (text) => expect.fail(`it rendered ${text.length} characters`),
      (reason: unknown) => reason,
    );
  expect(performance.now() - began).toBeLessThan(5000);
  expect(process.memoryUsage.rss() - before).toBeLessThan(50 << 20);
  if (!(error instanceof Error)) return expect.fail("no error");
  return error;
}

for (const { name, fault, template, reason_names: names } of hostile) {
  test(`a hostile template is refused: ${fault}`, async () => {
    const error = await refused(template);
    expect(error).toBeInstanceOf(name === "throws" ? InvalidRequest : ChatTemplateFailed);
    expect(error.message).toMatch(name === "throws" ? /chat template refuses/ : /model\.gguf.* cannot be rendered: .+/);
    for (const text of names) expect(error.message).toContain(text);
  });
}

for (const [name, template] of Object.entries(GREEDY)) {
  test(`a step that asks for too much is survived: ${name}`, async () => {
    expect(await refused(template)).toBeInstanceOf(ChatTemplateFailed);
  });
}

test("a template that raises on roles is the request's fault, and names them", async () => {
  const renderer = rendererOf(
    "{% for m in messages %}{{ m.content if m.role == 'user' else raise_exception('no ' ~ m.role) }}{% endfor %}",
  );
  const wizard = { ...asked, messages: [{ role: "wizard", content: "x" }] };
  await expect(renderer.render(wizard)).rejects.toMatchObject({ param: "messages", message: /no wizard$/ });
  expect(await renderer.render(asked)).toBe("Hi");
});

test("after a template that had to be ended, the next conversation is rendered as ever", async () => {
  const renderer = rendererOf(
    `{% if messages[0].content == 'loop' %}${GREEDY["nested lists"]}{% endif %}{{ messages[0].content }}`,
  );
  const say = (content: string) => renderer.render({ ...asked, messages: [{ role: "user", content }] });
  expect(await say("a")).toBe("a");
  const [first, second, third] = await Promise.allSettled([say("b"), say("loop"), say("c")]);
  expect(first).toEqual({ status: "fulfilled", value: "b" });
  expect(second.status).toBe("rejected");
  expect(third).toEqual({ status: "fulfilled", value: "c" });
});

test("a conversation of a million characters is rendered; what is too long for any template is refused", async () => {
  const renderer = rendererOf("{% for m in messages %}{{ m.content | trim }}{% endfor %}");
  const long = "Über ".repeat(200_000);
  const messages = Array.from({ length: 4 }, () => ({ role: "user", content: long }));
  expect(await renderer.render({ ...asked, messages })).toBe(long.trim().repeat(4));
  const longer = { ...asked, messages: [{ role: "user", content: "x".repeat((1 << 23) + 1) }] };
  await expect(renderer.render(longer)).rejects.toMatchObject({ param: "messages" });
});

test("many turns are rendered in the time that there is", async () => {
  const renderer = rendererOf("{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}\n{% endfor %}");
  const messages = Array.from({ length: 20_000 }, (_, turn) => ({ role: "user", content: `turn ${turn}` }));
  expect((await renderer.render({ ...asked, messages })).length).toBeGreaterThan(20_000);
});

test("who hangs up waits no longer, and is not rendered", async () => {
  const renderer = rendererOf("{{ messages[0].content }}");
  const client = new AbortController();
  const first = renderer.render(asked);
  const second = renderer.render(asked, client.signal);
  client.abort(new Error("gone"));
  await expect(second).rejects.toThrow("gone");
  expect(await first).toBe("Hi");
  await expect(renderer.render(asked, client.signal)).rejects.toThrow("gone");
});

test("closing ends what runs and what waits", async () => {
  const renderer = rendererOf("{{ messages[0].content }}");
  const both = [renderer.render(asked), renderer.render(asked)];
  renderer.close();
  for (const each of both) await expect(each).rejects.toThrow("closed");
  await expect(renderer.render(asked)).rejects.toThrow("closed");
});
