import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Conversation } from "../../../models/chat/chat-template.js";
import { Chat } from "../../../runtime/prompts/chat.js";
import { Encoder } from "../../../runtime/prompts/encoder.js";
import { ProcessDied } from "../../../runtime/prompts/job-process.js";
import { smallEngines } from "../engine/small-engine.js";

const { startEngine } = smallEngines();

const DEFAULT = resolve("models/default");
const folder = mkdtempSync(join(tmpdir(), "lambdatap-chat-"));
/** One for all chats without an engine, because an interpreter of templates takes seconds to start. */
const encoder = (await Encoder.start(DEFAULT, 4096)) ?? expect.fail("the model has a tokenizer");
afterAll(() => {
  encoder.close();
  rmSync(folder, { recursive: true });
});

/** Conversations by a template in a file. */
const chatBy = (file: string, by = encoder) => new Chat({ file, template: readFileSync(file, "utf8"), tokens: {} }, by);

/** The embedded model, with no template of its own. */
const bare = mkdtempSync(join(folder, "model-"));
for (const name of readdirSync(DEFAULT))
  if (!["tokenizer_config.json", "saes"].includes(name)) symlinkSync(join(DEFAULT, name), join(bare, name));

function templateFile(name: string, template: string): string {
  const path = join(folder, name);
  writeFileSync(path, template);
  return path;
}

const WITH_ROLES = templateFile(
  "roles.jinja",
  "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}<|system|>{% endif %}\n{% endfor %}",
);
const conversation: Conversation = {
  messages: JSON.stringify([{ role: "user", content: "Once upon a time" }]),
  addGenerationPrompt: true,
  continueFinalMessage: false,
  tools: null,
  variables: {},
};
const { signal } = new AbortController();

test("the embedded model goes on with what the messages say, behind one beginning-of-text token", async () => {
  const engine = await startEngine({ model: DEFAULT, saes: [] });
  expect(engine.card.hasChatTemplate).toBe(true);
  const messages = [
    { role: "system", content: "A story." },
    { role: "user", content: "Once upon a time" },
    { role: "assistant", content: " there was" },
    { role: "user", content: "Then" },
  ];
  const { ids, turnEndIds } = await engine.chatPrompt({ ...conversation, messages: JSON.stringify(messages) }, signal);
  expect([...ids]).toEqual([0, ...(await engine.encode("A story.\n\nOnce upon a time there was\n\nThen"))]);
  expect(turnEndIds).toEqual([]);
});

test("a template in a file stands in for the model's own, and says what ends a turn", async () => {
  const engine = await startEngine({ model: DEFAULT, saes: [], chatTemplate: WITH_ROLES });
  const { ids, turnEndIds } = await engine.chatPrompt(conversation, signal);
  expect([...ids]).toEqual([0, 1, ...(await engine.encode("Once upon a time"))]);
  expect(turnEndIds).toEqual([3]);
});

test("the end of a turn is looked for again where the tokenizer's process died of the first time", async () => {
  let fails = 1;
  const failing: Encoder = {
    jobs: encoder.jobs,
    tokens: encoder.tokens,
    close: () => encoder.close(),
    encode(text, at) {
      if (text.startsWith("<|system|>") && fails-- > 0) return Promise.reject(new ProcessDied("it died"));
      return encoder.encode(text, at);
    },
  };
  const chat = chatBy(WITH_ROLES, failing);
  await expect(chat.prompt(conversation, signal)).rejects.toThrow("it died");
  expect((await chat.prompt(conversation, signal)).turnEndIds).toEqual([3]);
});

test("a template that refuses an ordinary turn has no end of one, and is used all the same", async () => {
  const picky = templateFile(
    "picky.jinja",
    "{% for m in messages %}{{ m.content if m.role == 'user' else raise_exception('users only') }}{% endfor %}",
  );
  const chat = chatBy(picky);
  expect(await chat.prompt(conversation, signal)).toEqual({
    ids: await encoder.encode("Once upon a time", "prompt"),
    turnEndIds: [],
  });
  const empty = { ...conversation, messages: JSON.stringify([{ role: "user", content: "" }]) };
  await expect(chat.prompt(empty, signal)).rejects.toMatchObject({ param: "messages", message: /empty/ });
});

test("a model without a template says how to give it one, and takes one", async () => {
  const without = await startEngine({ model: bare });
  expect(without.card.hasChatTemplate).toBe(false);
  const refused = { param: "messages", message: expect.stringContaining("--chat-template <file>") };
  await expect(without.chatPrompt(conversation, signal)).rejects.toMatchObject(refused);

  const given = await startEngine({ model: bare, chatTemplate: WITH_ROLES });
  const { ids } = await given.chatPrompt(conversation, signal);
  expect(ids.slice(0, 2)).toEqual(Int32Array.of(0, 1));
});

test("a model without a tokenizer cannot chat, and a template that it is given ends the start", async () => {
  await expect(startEngine({ chatTemplate: WITH_ROLES })).rejects.toThrow(
    /has no tokenizer, .* the chat template .*roles/,
  );
  const engine = await startEngine({});
  expect(engine.card.hasChatTemplate).toBe(false);
  await expect(engine.chatPrompt(conversation, signal)).rejects.toMatchObject({ param: "messages" });
});

test("a template that is not there keeps the model from being loaded, in a sentence", async () => {
  const chatTemplate = join(folder, "none.jinja");
  await expect(startEngine({ model: DEFAULT, chatTemplate })).rejects.toThrow(/none\.jinja: there is no such file/);
});

test("a template that Jinja cannot compile keeps the model from being loaded where it was given, in a sentence", async () => {
  const refusal = "the model's chat template (wrong.jinja) is not supported: ";
  for (const [template, named] of [
    ["{{ messages | shout }}", "No filter named 'shout'"],
    ["{% if messages is loud %}{% include 'other' %}{% endif %}", "{% include %}"],
    ["{% launch missiles %}", "Encountered unknown tag 'launch'"],
  ] as const)
    await expect(chatBy(templateFile("wrong.jinja", template)).check()).rejects.toThrow(refusal + named);
  const chatTemplate = join(folder, "wrong.jinja");
  await expect(startEngine({ model: DEFAULT, saes: [], chatTemplate })).rejects.toThrow(
    `${refusal}Encountered unknown`,
  );
});

test("a model's own template that Jinja cannot compile ends no start; a chat is told of it", async () => {
  const own = mkdtempSync(join(folder, "model-"));
  for (const name of readdirSync(bare)) symlinkSync(join(bare, name), join(own, name));
  writeFileSync(join(own, "chat_template.jinja"), "{% extends 'base' %}");
  const engine = await startEngine({ model: own, saes: [] });
  await expect(engine.chatPrompt(conversation, signal)).rejects.toMatchObject({
    name: "ChatTemplateUnsupported",
    message: /^the model's chat template \(chat_template\.jinja\) is not supported: {% extends %}/,
  });
});

test("closing the engine ends a rendering", async () => {
  const chatTemplate = templateFile(
    "endless.jinja",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
  );
  const engine = await startEngine({ model: DEFAULT, saes: [], chatTemplate });
  const refused = expect(engine.chatPrompt(conversation, signal)).rejects.toThrow("closed");
  await engine.close();
  await refused;
});
