import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LocalEngine } from "../../runtime/engine/engine.js";
import type { HttpServer } from "../../server/http.js";
import { serve } from "./with-server.js";

/** The embedded model, once with its own template and once with one that has roles. */
const MODEL = join("models", "default");
const ROLES = `{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}
{%- if m.content == 'forever' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}
{{- '<|' ~ m.role ~ '|>' ~ m.content }}{% if m.role == 'assistant' %}<|system|>{% endif %}{% endfor %}`;

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const engines: LocalEngine[] = [];
const servers: HttpServer[] = [];
let plain: OpenAI;
let roles: OpenAI;
beforeAll(async () => {
  const chatTemplate = join(folder, "roles.jinja");
  writeFileSync(chatTemplate, ROLES);
  [plain, roles] = [await clientOf({}), await clientOf({ chatTemplate })];
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.drain(0)));
  await Promise.all(engines.map((engine) => engine.close()));
  rmSync(folder, { recursive: true });
});

async function clientOf(options: { chatTemplate?: string }): Promise<OpenAI> {
  const load = { precision: "f32", parallel: 4, queueLimit: 4, stallTimeoutMs: 60_000, threads: 1 } as const;
  const engine = await LocalEngine.start({ model: MODEL, cacheDir: folder, ...load, ...options });
  const server = await serve(engine);
  engines.push(engine);
  servers.push(server);
  return new OpenAI({ apiKey: "none", baseURL: `${server.url}/v1`, maxRetries: 0 });
}

const user = { role: "user", content: "The king had three daughters, and" } as const;
const greedy = { model: "default", temperature: 0, max_tokens: 12 };

test("the embedded model goes on with the text of the messages, as a completion of it does", async () => {
  const chat = await plain.chat.completions.create({ ...greedy, messages: [user] });
  const text = await plain.completions.create({ ...greedy, prompt: user.content });
  expect(chat.choices[0]?.message).toEqual({ role: "assistant", content: text.choices[0]?.text, refusal: null });
  expect(chat.choices[0]?.finish_reason).toBe("length");
  expect(chat.usage).toEqual(text.usage);
});

test("an answer that is sent back stands where it stood", async () => {
  const { choices } = await plain.chat.completions.create({ ...greedy, messages: [user] });
  const assistant = { role: "assistant", content: choices[0]?.message.content ?? "" } as const;
  const next = await plain.chat.completions.create({ ...greedy, messages: [user, assistant] });
  const all = await plain.completions.create({ ...greedy, prompt: user.content + assistant.content });
  expect(next.choices[0]?.message.content).toBe(all.choices[0]?.text);
});

test("a stream says what the whole answer says, with its log-probabilities", async () => {
  const body = { ...greedy, messages: [user], n: 2, logprobs: true, top_logprobs: 3 };
  const whole = await plain.chat.completions.create(body);
  const stream = await plain.chat.completions.create({
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  });
  const texts = ["", ""];
  const tokens: OpenAI.ChatCompletionTokenLogprob[][] = [[], []];
  const ends: unknown[] = [];
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) {
    for (const { index, delta, logprobs, finish_reason } of chunk.choices) {
      texts[index] += delta.content ?? "";
      tokens[index]?.push(...(logprobs?.content ?? []));
      if (finish_reason !== null) ends.push(finish_reason);
    }
    usage = chunk.usage;
  }
  expect(texts).toEqual(whole.choices.map(({ message }) => message.content));
  expect(tokens).toEqual(whole.choices.map(({ logprobs }) => logprobs?.content));
  expect(tokens[0]?.length).toBe(12);
  for (const { token, bytes, logprob, top_logprobs } of tokens[0] ?? []) {
    expect(Buffer.from(bytes ?? []).toString()).toBe(token);
    expect(top_logprobs[0]).toEqual({ token, bytes, logprob });
    expect(top_logprobs).toHaveLength(3);
  }
  expect(ends).toEqual(["length", "length"]);
  expect(usage).toEqual(whole.usage);
});

test("a stop string ends the answer before it", async () => {
  const { choices } = await plain.chat.completions.create({ ...greedy, messages: [user] });
  const stop = choices[0]?.message.content?.slice(5, 8) ?? "";
  const stopped = await plain.chat.completions.create({ ...greedy, messages: [user], stop });
  expect(stopped.choices[0]?.finish_reason).toBe("stop");
  expect(stopped.choices[0]?.message.content).toBe(choices[0]?.message.content?.split(stop)[0]);
});

test("a runner reads features, edits and the rest of ours through the client", async () => {
  const features = { saes: ["blocks.3.hook_resid_post"], top: 2, prompt: true };
  const edits = [{ sae: "blocks.3.hook_resid_post", feature: 833, op: "add", value: 30 }];
  const ours = { features, edits, lm_infinite: { window: 64 }, top_k: 40, ignore_eos: true };
  const answer = await plain.chat.completions.create({ ...greedy, messages: [user], ...ours });
  expect(answer.choices[0]).toHaveProperty("features.length", 12 + (answer.usage?.prompt_tokens ?? 0));
  const unedited = await plain.chat.completions.create({ ...greedy, messages: [user] });
  expect(answer.choices[0]?.message.content).not.toBe(unedited.choices[0]?.message.content);
});

test("the template's end of a turn ends the answer, though the model does not call it one", async () => {
  const body = { ...greedy, messages: [user], logit_bias: { 3: 100 } };
  const { choices, usage } = await roles.chat.completions.create(body);
  expect(choices[0]).toMatchObject({ finish_reason: "stop", stop_reason: null, message: { content: "" } });
  expect(usage?.completion_tokens).toBe(1);
  const on = await roles.chat.completions.create({ ...body, ...{ ignore_eos: true } });
  expect(on.choices[0]?.finish_reason).toBe("length");
});

test("what the template refuses is a bad request; what breaks it is the server's failure, and the next one is served", async () => {
  const ask = (...messages: OpenAI.ChatCompletionMessageParam[]) =>
    roles.chat.completions.create({ ...greedy, messages });
  const tool = ask({ role: "tool", content: "x", tool_call_id: "c" });
  await expect(tool).rejects.toMatchObject({ status: 400, param: "messages", message: /no tools here/ });
  const forever = ask({ role: "user", content: "forever" });
  await expect(forever).rejects.toMatchObject({ status: 500, code: "chat_template_failed" });
  expect((await ask(user)).choices[0]?.finish_reason).toBe("length");
  const image = { type: "image_url", image_url: { url: "data:," } } as const;
  await expect(ask({ role: "user", content: [image] })).rejects.toMatchObject({ param: "messages[0].content[0].type" });
});

test("a chat that names no length ends by itself, and one that has -1 for it is the client's to end", async () => {
  const { choices, usage } = await plain.chat.completions.create({ model: "default", messages: [user] });
  expect(["stop", "length"]).toContain(choices[0]?.finish_reason);
  expect(usage?.completion_tokens).toBeLessThanOrEqual(256);
  const body = { ...greedy, messages: [user], max_tokens: -1, ...{ ignore_eos: true } };
  let chunks = 0;
  for await (const _ of await plain.chat.completions.create({ ...body, stream: true })) if (++chunks === 300) break;
  expect(chunks).toBe(300);
});

test("more prompts than run and wait at once are all answered, each as alone", async () => {
  const prompt = Array.from({ length: 30 }, (_, i) => `${user.content} ${"and ".repeat(i % 3)}`);
  const { choices, usage } = await plain.completions.create({ ...greedy, prompt });
  expect(choices.map(({ index }) => index)).toEqual(prompt.map((_, i) => i));
  const alone = await Promise.all(
    prompt.slice(0, 3).map((each) => plain.completions.create({ ...greedy, prompt: each })),
  );
  for (const [i, { text }] of choices.entries()) expect(text).toBe(alone[i % 3]?.choices[0]?.text);
  expect(usage?.completion_tokens).toBe(30 * greedy.max_tokens);
});

test("the first of several seeded choices is the one of that seed alone, and the others are nobody's neighbours", async () => {
  const ask = async (seed: number, n: number) => {
    const body = { model: "default", prompt: user.content, max_tokens: 12, seed, n, ...{ ignore_eos: true } };
    return (await plain.completions.create(body)).choices.map(({ text }) => text);
  };
  const several = [await ask(7, 3), await ask(8, 3)];
  expect(several.map(([first]) => first)).toEqual([...(await ask(7, 1)), ...(await ask(8, 1))]);
  expect(new Set(several.flat()).size).toBe(6);
});

test("a text that begins with the beginning-of-text token has one, and retrieval takes prompts of any length", async () => {
  const bos = engines[0]?.tokenTexts([0]).join("") ?? expect.fail("no engine");
  const ids = async (prompt: string) => {
    const asked = { ...greedy, prompt, max_tokens: 1, ...{ return_token_ids: true } };
    const [choice] = (await plain.completions.create(asked)).choices;
    return choice !== undefined && "prompt_token_ids" in choice ? choice.prompt_token_ids : null;
  };
  expect(await ids(`${bos}Once upon`)).toEqual(await ids("Once upon"));
  for (let length = 1; length <= 12; length++) {
    const prompt = Array.from({ length }, (_, i) => 100 + i);
    const asked = { ...greedy, prompt, max_tokens: 2, ...{ lm_infinite: { retrieve: {} } } };
    expect((await plain.completions.create(asked)).usage?.completion_tokens).toBe(2);
  }
});
