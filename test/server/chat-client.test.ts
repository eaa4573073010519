import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LocalEngine } from "../../runtime/engine.js";
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
