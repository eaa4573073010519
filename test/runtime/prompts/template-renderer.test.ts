import { readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { z } from "zod";
import type { Conversation } from "../../../models/chat/chat-template.js";
import type { ChatTemplate } from "../../../models/model-source.js";
import { JobProcess } from "../../../runtime/prompts/job-process.js";
import { TemplateRenderer } from "../../../runtime/prompts/template-renderer.js";

const Hostile = z.object({
  cases: z.array(
    z.object({ name: z.string(), fault: z.string(), template: z.string(), reason_names: z.array(z.string()) }),
  ),
});
const hostile = Hostile.parse(JSON.parse(readFileSync("test/golden/chat/hostile.json", "utf8"))).cases;

const asked: Conversation = {
  messages: JSON.stringify([{ role: "user", content: "Hi" }]),
  addGenerationPrompt: true,
  continueFinalMessage: false,
  tools: null,
  variables: {},
};
const saying = (...contents: string[]): Conversation => ({
  ...asked,
  messages: JSON.stringify(contents.map((content) => ({ role: "user", content }))),
});
const templateOf = (template: string): ChatTemplate => ({ file: "/models/model.gguf", template, tokens: {} });
const FIRST = templateOf("{{ messages[0].content }}");

const start = async () => {
  const limits = { memory: 2 ** 31, ms: 10_000 };
  return (await JobProcess.start({ type: "open", path: "models/default", vocabSize: 4096, limits })).process;
};
const closed = new Error("closed");

/** One for all, because an interpreter takes seconds to start: those that have to be ended are replaced. */
const jobs = await start();
const renderer = new TemplateRenderer(jobs);
afterAll(() => jobs.close(closed));

/** Refused with the server's memory as it was. */
async function refused(template: string): Promise<Error> {
  const before = process.memoryUsage.rss();
  const error = await renderer.render(templateOf(template), asked).then(
    (text) => expect.fail(`it rendered ${text.length} characters`),
    (reason: unknown) => reason,
  );
  expect(process.memoryUsage.rss() - before).toBeLessThan(50 << 20);
  return error instanceof Error ? error : expect.fail("no error");
}

const KINDS: Record<string, string> = {
  throws: "InvalidRequest",
  syntax: "ChatTemplateUnsupported",
  "unknown-tag": "ChatTemplateUnsupported",
};
for (const { name, fault, template, reason_names: names } of hostile) {
  test(`a hostile template is refused: ${fault}`, async () => {
    const error = await refused(template);
    expect(error.name).toBe(KINDS[name] ?? "ChatTemplateFailed");
    expect(error.message).toMatch(
      name === "throws" ? /chat template refuses/ : /\(model\.gguf\) (cannot be|is not) .+: .+/,
    );
    expect(error.message).not.toContain("/models");
    for (const text of names) expect(error.message).toContain(text);
  });
}

test("a template that raises on roles is the request's fault, and names them", async () => {
  const picky = templateOf(
    "{% for m in messages %}{{ m.content if m.role == 'user' else raise_exception('no ' ~ m.role) }}{% endfor %}",
  );
  const wizard = { ...asked, messages: JSON.stringify([{ role: "wizard", content: "x" }]) };
  await expect(renderer.render(picky, wizard)).rejects.toMatchObject({ param: "messages", message: /no wizard$/ });
  expect(await renderer.render(picky, asked)).toBe("Hi");
});

test("what Jinja cannot compile is named before there is a conversation", async () => {
  await renderer.check(FIRST);
  await expect(renderer.check(templateOf("{{ messages | shout }}"))).rejects.toThrow(
    /^the model's chat template \(model\.gguf\) is not supported: No filter named 'shout'/,
  );
});

test("after a template that had to be ended, the next conversation is rendered as ever", async () => {
  const loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  const mixed = templateOf(`{% if messages[0].content == 'loop' %}${loop}{% endif %}{{ messages[0].content }}`);
  const say = (content: string) => renderer.render(mixed, saying(content));
  const [first, second, third] = await Promise.allSettled([say("b"), say("loop"), say("c")]);
  expect(first).toEqual({ status: "fulfilled", value: "b" });
  expect(second).toMatchObject({ status: "rejected", reason: { message: /runs for more than \d+ ms/ } });
  expect(third).toEqual({ status: "fulfilled", value: "c" });
});

test("texts are encoded while a template runs for ever, and by the same process when it was ended", async () => {
  const before = jobs.pid;
  const encode = () => jobs.run({ type: "encode", text: "Once upon a time" });
  const loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  const finished: string[] = [];
  const endless = renderer.render(templateOf(loop), asked).catch(() => finished.push("template"));
  for (let i = 0; i < 10; i++) await encode().then(() => finished.push("text"));
  await endless;
  expect(finished).toEqual([...Array(10).fill("text"), "template"]);
  expect(await encode()).toMatchObject({ type: "encoded" });
  expect(jobs.pid).toBe(before);
});

test("a conversation that is being rendered when the process is killed is rendered by the next", async () => {
  const loop = "{% for a in range(999) %}{% for b in range(99) %}{% endfor %}{% endfor %}{{ messages[0].content }}";
  const rendered = renderer.render(templateOf(loop), asked);
  process.kill(jobs.pid ?? 0, "SIGKILL");
  expect(await rendered).toBe("Hi");
});

test("a conversation of a million characters is rendered; what is too long for any template is refused", async () => {
  const trimming = templateOf("{% for m in messages %}{{ m.content | trim }}{% endfor %}");
  const long = "Über ".repeat(200_000);
  expect(await renderer.render(trimming, saying(long, long, long, long))).toBe(long.trim().repeat(4));
  await expect(renderer.render(FIRST, saying("x".repeat((1 << 23) + 1)))).rejects.toMatchObject({ param: "messages" });
});

test("many turns are rendered in the time that there is", async () => {
  const roles = templateOf("{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}\n{% endfor %}");
  const turns = Array.from({ length: 20_000 }, (_, turn) => `turn ${turn}`);
  expect((await renderer.render(roles, saying(...turns))).length).toBeGreaterThan(20_000);
});

test("who hangs up waits no longer, and is not rendered", async () => {
  const client = new AbortController();
  const first = renderer.render(FIRST, asked);
  const second = renderer.render(FIRST, asked, client.signal);
  client.abort(new Error("gone"));
  await expect(second).rejects.toThrow("gone");
  expect(await first).toBe("Hi");
  await expect(renderer.render(FIRST, asked, client.signal)).rejects.toThrow("gone");
});

test("closing ends what runs and what waits", async () => {
  const process = await start();
  const closing = new TemplateRenderer(process);
  const both = [closing.render(FIRST, asked), closing.render(FIRST, asked)];
  process.close(closed);
  for (const each of both) await expect(each).rejects.toThrow("closed");
  await expect(closing.render(FIRST, asked)).rejects.toThrow("closed");
});
