import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { InvalidRequest } from "../../runtime/contract/errors.js";
import { LocalEngine } from "../../runtime/engine/engine.js";
import type { AppEnv } from "../../server/exchange.js";
import { scriptedEngine } from "./scripted-engine.js";
import { openTraces } from "./trace-wire.js";
import { errorOf } from "./wire.js";
import { appOf, eventsOf, withServer } from "./with-server.js";

const cacheDir = mkdtempSync(join(tmpdir(), "lambdatap-"));
let engine: LocalEngine;
let app: Hono<AppEnv>;
beforeAll(async () => {
  const load = { precision: "f32", parallel: 4, queueLimit: 16, stallTimeoutMs: 60_000, threads: 1 } as const;
  engine = await LocalEngine.start({ model: join("models", "default"), cacheDir, saes: [], ...load });
  app = appOf(engine);
});
afterAll(async () => {
  await engine.close();
  rmSync(cacheDir, { recursive: true });
});

const Ranked = z.strictObject({ logprob: z.number(), rank: z.int(), decoded_token: z.string() });
const PromptLogprobs = z.array(z.record(z.string(), Ranked).nullable());
const Choice = z.looseObject({
  text: z.string().default(""),
  message: z.looseObject({ content: z.string() }).optional(),
  finish_reason: z.string().nullable(),
  stop_reason: z.union([z.string(), z.number()]).nullable(),
  token_ids: z.array(z.int()).default([]),
  prompt_token_ids: z.array(z.int()).default([]),
  prompt_logprobs: PromptLogprobs.optional(),
  logprobs: z
    .looseObject({
      token_logprobs: z.array(z.number().nullable()),
      top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
    })
    .nullable()
    .catch(null),
});
const Answer = z.looseObject({ choices: z.array(Choice), prompt_logprobs: PromptLogprobs.optional() });

const PROMPT = "The king had three daughters, and";
const post = (body: object, path = "/v1/completions") =>
  app.request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: PROMPT, max_tokens: 30, return_token_ids: true, temperature: 0, ...body }),
  });
async function answer(body: object, path?: string) {
  const response = await post(body, path);
  const json: unknown = await response.json();
  expect(json).not.toHaveProperty("error");
  return Answer.parse(json);
}
async function choice(body: object, path?: string) {
  const [first] = (await answer(body, path)).choices;
  return first ?? expect.fail("no choice");
}
const chat = async (body: object) => {
  const messages = [{ role: "user", content: PROMPT }];
  return answer({ ...body, prompt: undefined, messages }, "/v1/chat/completions");
};
const refusal = async (body: object, path?: string) => {
  const response = await post(body, path);
  return [response.status, (await errorOf(response)).param];
};
const idOf = async (text: string) => {
  const [id, ...more] = await engine.encode(text);
  return more.length === 0 && id !== undefined ? id : expect.fail(`${text} is not one token`);
};
const has = (ids: readonly number[], word: readonly number[]) => `,${ids.join()},`.includes(`,${word.join()},`);

describe("allowed_token_ids", () => {
  test("are the only ones that come, drawn or greedy, in completions, chats and streams", async () => {
    const allowed = [await idOf(" the"), await idOf(","), await idOf(" and"), await idOf(" king")];
    const body = { allowed_token_ids: [...allowed, ...allowed], n: 2, temperature: 1.5, seed: 3, max_tokens: 40 };
    const { choices } = await answer(body);
    for (const { token_ids } of [...choices, ...(await chat(body)).choices]) {
      expect(token_ids).toHaveLength(40);
      expect(new Set(token_ids).size).toBeGreaterThan(1);
      expect(token_ids.filter((id) => !allowed.includes(id))).toEqual([]);
    }
    const greedy = await choice({ ...body, temperature: 0, n: 1 });
    expect(greedy.token_ids.filter((id) => !allowed.includes(id))).toEqual([]);
  });

  test("leave log-probabilities as the model has them", async () => {
    const [free, id] = [await choice({ max_tokens: 1, logprobs: 1 }), await idOf(" castle")];
    const masked = await choice({ max_tokens: 1, logprobs: 1, allowed_token_ids: [id] });
    expect(masked.token_ids).toEqual([id]);
    expect(Object.entries(masked.logprobs?.top_logprobs[0] ?? {})).toEqual(
      expect.arrayContaining(Object.entries(free.logprobs?.top_logprobs[0] ?? { none: 0 })),
    );
    const told = await choice({ prompt: [...free.prompt_token_ids, id], echo: true, logprobs: 0, max_tokens: 0 });
    expect(masked.logprobs?.token_logprobs[0]).toBeCloseTo(told.logprobs?.token_logprobs.at(-1) ?? 0, 4);
  });

  test("that the vocabulary does not have, or that leave nothing, are refused", async () => {
    const king = await idOf(" king");
    for (const [body, param] of [
      [{ allowed_token_ids: [] }, "allowed_token_ids"],
      [{ allowed_token_ids: "5" }, "allowed_token_ids"],
      [{ allowed_token_ids: { 0: 5 } }, "allowed_token_ids"],
      [{ allowed_token_ids: [5, 4096] }, "allowed_token_ids[1]"],
      [{ allowed_token_ids: [5, 6, -1] }, "allowed_token_ids[2]"],
      [{ allowed_token_ids: [1.5] }, "allowed_token_ids[0]"],
      [{ allowed_token_ids: [null] }, "allowed_token_ids[0]"],
      [{ allowed_token_ids: [king], bad_words: ["king"] }, "allowed_token_ids"],
      [{ allowed_token_ids: [0], min_tokens: 1 }, "allowed_token_ids"],
      [{ allowed_token_ids: [king], min_tokens: 1, stop_token_ids: [king] }, "allowed_token_ids"],
    ] as const)
      expect(await refusal(body).catch(() => [])).toEqual([400, param]);
    expect((await post({ allowed_token_ids: [0], min_tokens: 1, ignore_eos: true, max_tokens: 2 })).status).toBe(200);
  });

  test("that a bad word uses up on the way end the request with 400, in words, streamed or not", async () => {
    const body = { allowed_token_ids: [await idOf("7")], bad_words: ["77"] };
    const response = await post(body);
    expect([response.status, await errorOf(response)]).toMatchObject([400, { code: "no_token_left" }]);
    const events = eventsOf(await (await post({ ...body, stream: true })).text());
    expect(JSON.parse(events.at(-1) ?? "")).toMatchObject({ error: { code: "no_token_left" } });
  });
});

describe("bad_words", () => {
  test("of one token, with or without a space in front, never come", async () => {
    const words = ["the", " and", "was", ",", "."];
    for (const seed of [1, 2, 3]) {
      const { text } = await choice({ bad_words: words, temperature: 1, seed, max_tokens: 120 });
      for (const word of ["the", "and", "was"]) expect(text.split(/[^a-z]+/i)).not.toContain(word);
      expect(text).not.toMatch(/[,.](?!\S)/);
    }
  });

  test("of several tokens never come, though their beginnings do", async () => {
    const free = await choice({ max_tokens: 60 });
    const pair = free.token_ids.slice(3, 6);
    const word = engine.decode(pair);
    expect([...(await engine.encode(word))]).toEqual(pair);
    const held = await choice({ bad_words: [word], max_tokens: 60 });
    expect(has(free.token_ids, pair)).toBe(true);
    expect(has(held.token_ids, pair)).toBe(false);
    expect(held.token_ids.slice(0, 5)).toEqual(free.token_ids.slice(0, 5));
    const [chosen] = (await chat({ bad_words: [word], max_tokens: 60 })).choices;
    expect(has(chosen?.token_ids ?? [], pair)).toBe(false);
  });

  test("are bounded, each of them", async () => {
    for (const [body, param] of [
      [{ bad_words: "the" }, "bad_words"],
      [{ bad_words: ["a", ""] }, "bad_words[1]"],
      [{ bad_words: ["a", 5] }, "bad_words[1]"],
      [{ bad_words: ["x".repeat(257)] }, "bad_words[0]"],
      [{ bad_words: ["a", "\ud83d"] }, "bad_words[1]"],
      [{ bad_words: Array(1025).fill("a") }, "bad_words"],
    ] as const)
      expect(await refusal(body)).toEqual([400, param]);
    expect((await post({ bad_words: [], max_tokens: 1 })).status).toBe(200);
    expect((await post({ bad_words: [" ", "\n", "<|endoftext|>"], max_tokens: 1 })).status).toBe(200);
    const many = Array.from({ length: 1024 }, (_, i) => `${i} ${"word ".repeat(40)}`);
    expect((await post({ bad_words: many, max_tokens: 2 })).status).toBe(200);
  });
});

describe("include_stop_str_in_output", () => {
  test("keeps the stop string, and nothing behind it, streamed as whole", async () => {
    const whole = (await choice({})).text;
    for (const stop of [whole.slice(9, 15), whole.slice(20, 21)]) {
      const ended = { text: whole.slice(0, whole.indexOf(stop) + stop.length), stop_reason: stop };
      const body = { stop, include_stop_str_in_output: true };
      expect(await choice(body)).toMatchObject({ ...ended, finish_reason: "stop" });
      const events = eventsOf(await (await post({ ...body, stream: true })).text()).slice(0, -1);
      const pieces = events.map((event) => Answer.parse(JSON.parse(event)).choices[0]?.text ?? "");
      expect(pieces.join("")).toBe(ended.text);
      expect((await choice({ stop })).text).toBe(whole.slice(0, whole.indexOf(stop)));
      const [message] = (await chat(body)).choices;
      expect(message?.message?.content.endsWith(stop)).toBe(true);
    }
  });

  test("keeps the text of a stop token", async () => {
    const { token_ids } = await choice({});
    const stop_token_ids = token_ids.slice(4, 5);
    const first = token_ids.slice(0, token_ids.indexOf(stop_token_ids[0] ?? -1));
    expect((await choice({ stop_token_ids })).text).toBe(engine.decode(first));
    const kept = await choice({ stop_token_ids, include_stop_str_in_output: true });
    expect(kept).toMatchObject({ text: engine.decode([...first, ...stop_token_ids]), stop_reason: stop_token_ids[0] });
  });
});

describe("skip_special_tokens", () => {
  const special = { allowed_token_ids: [1, 2], temperature: 1, seed: 1, max_tokens: 12 };

  test("false shows the text of special tokens, else they have none", async () => {
    const shown = await choice({ ...special, skip_special_tokens: false, spaces_between_special_tokens: false });
    expect(shown.text).toBe(shown.token_ids.map((id) => ["", "<|user|>", "<|assistant|>"][id]).join(""));
    const hidden = await choice(special);
    expect([hidden.token_ids, hidden.text]).toEqual([shown.token_ids, ""]);
    expect((await choice({ ...special, skip_special_tokens: true })).text).toBe("");
  });

  test("false lets a stop string be one, and the end of a text be told", async () => {
    const stop = "<|assistant|>";
    const ended = await choice({ ...special, skip_special_tokens: false, stop });
    expect(ended).toMatchObject({ stop_reason: stop });
    expect(ended.text).toBe("<|user|>".repeat(ended.token_ids.length - 1));
    expect((await choice({ ...special, stop })).stop_reason).toBe(null);
    const eos = { allowed_token_ids: [0], skip_special_tokens: false };
    expect((await choice(eos)).text).toBe("");
    expect((await choice({ ...eos, include_stop_str_in_output: true })).text).toBe("<|endoftext|>");
  });

  test("false shows them in an echo of token ids", async () => {
    const ids = { prompt: [0, 1, 600], echo: true, max_tokens: 0 };
    const bare = (await choice(ids)).text;
    expect((await choice({ ...ids, skip_special_tokens: false })).text).toBe(`<|endoftext|><|user|>${bare}`);
  });
});

test("add_special_tokens: false puts nothing in front of a text", async () => {
  const ids = [...(await engine.encode(PROMPT))];
  expect((await choice({ max_tokens: 1 })).prompt_token_ids).toEqual([0, ...ids]);
  expect((await choice({ max_tokens: 1, add_special_tokens: false })).prompt_token_ids).toEqual(ids);
  expect(await refusal({ prompt: "", add_special_tokens: false })).toEqual([400, "prompt"]);
});

describe("prompt_logprobs", () => {
  test("are those of echo, with ranks and the likeliest tokens", async () => {
    const echoed = await choice({ echo: true, logprobs: 3, max_tokens: 1 });
    for (const top of [0, 1, 3]) {
      const told = await choice({ prompt_logprobs: top, max_tokens: 1 });
      const ids = told.prompt_token_ids;
      expect(told.text).not.toContain(PROMPT);
      expect(told.logprobs).toBe(null);
      expect(told.prompt_logprobs).toHaveLength(ids.length);
      expect(told.prompt_logprobs?.[0]).toBe(null);
      for (const [pos, entry] of (told.prompt_logprobs ?? []).entries()) {
        if (entry === null) continue;
        const own = entry[ids[pos] ?? -1];
        expect(own?.decoded_token).toBe(engine.tokenTexts([ids[pos] ?? 0])[0]);
        expect(own?.logprob).toBe(echoed.logprobs?.token_logprobs[pos]);
        expect(Object.keys(entry)).toHaveLength((own?.rank ?? 0) <= top ? top : top + 1);
        const likeliest = Object.values(entry).filter(({ rank }) => rank <= top);
        const want = Object.entries(echoed.logprobs?.top_logprobs[pos] ?? {}).sort(([, a], [, b]) => b - a);
        expect(likeliest.sort((a, b) => a.rank - b.rank).map(({ logprob }) => logprob)).toEqual(
          want.slice(0, top).map(([, logprob]) => logprob),
        );
        expect(likeliest.map(({ rank }) => rank)).toEqual(likeliest.map((_, i) => i + 1));
      }
    }
  });

  test("go with echo and fewer logprobs, with several choices, and with nothing generated", async () => {
    const body = { prompt_logprobs: 4, echo: true, logprobs: 1, max_tokens: 0, n: 2 };
    const { choices } = await answer(body);
    const plain = await choice({ ...body, prompt_logprobs: null, n: 1 });
    for (const each of choices) {
      expect([each.text, each.logprobs]).toEqual([PROMPT, plain.logprobs]);
      expect(each.prompt_logprobs).toEqual(choices[0]?.prompt_logprobs);
    }
    const fewer = await choice({ prompt_logprobs: 1, echo: true, logprobs: 4, max_tokens: 0 });
    const told = fewer.prompt_logprobs?.map((entry) => Object.keys(entry ?? {}).length) ?? [];
    expect([Math.min(...told.slice(1)), Math.max(...told)]).toEqual([1, 2]);
    expect(await choice({ prompt: [600], prompt_logprobs: 2, max_tokens: 1 })).toMatchObject({
      prompt_logprobs: [null],
    });
    expect(await choice({ max_tokens: 1 })).not.toHaveProperty("prompt_logprobs");
    expect(await choice({ prompt_logprobs: 0, echo: true, max_tokens: 0 })).toMatchObject({
      text: PROMPT,
      logprobs: null,
    });
  });

  test("of a chat stand beside its choices, as in vLLM", async () => {
    const { choices, prompt_logprobs } = await chat({ prompt_logprobs: 1, n: 2, max_tokens: 1 });
    expect(prompt_logprobs).toHaveLength(choices[0]?.prompt_token_ids.length ?? 0);
    expect(choices[0]).not.toHaveProperty("prompt_logprobs");
    expect(await chat({ max_tokens: 1 })).not.toHaveProperty("prompt_logprobs");
  });

  test("are refused where they cannot be told", async () => {
    for (const body of [
      { prompt_logprobs: -1 },
      { prompt_logprobs: 21 },
      { prompt_logprobs: true },
      { prompt_logprobs: 1, stream: true },
      { prompt_logprobs: 20, prompt: Array(25_000).fill(600) },
    ])
      expect(await refusal(body)).toEqual([400, "prompt_logprobs"]);
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url);
      traces.send({ type: "generate", id: "a", prompt: "Once", prompt_logprobs: 1 });
      await traces.have("error");
      expect(traces.frames).toMatchObject([{ error: { param: "prompt_logprobs" } }]);
    });
  });
});

test("a bad word that the tokenizer cannot read is named", async () => {
  const engine = scriptedEngine({ card: { hasTokenizer: true } });
  const reading = appOf({
    ...engine,
    encode: async (text, at = "prompt") => {
      if (text.includes("ü")) throw new InvalidRequest("the text cannot be encoded", at);
      return engine.encode(text);
    },
  });
  const response = await reading.request("/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: "a", bad_words: ["a", "über"] }),
  });
  expect([response.status, (await errorOf(response)).param]).toEqual([400, "bad_words[1]"]);
});

test("a model without tokenizer has no bad words", async () => {
  const bare = appOf({
    ...scriptedEngine({ card: { hasTokenizer: false } }),
    encode: async () => Promise.reject(new Error("no tokenizer")),
  });
  const response = await bare.request("/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: [5], bad_words: ["a"] }),
  });
  expect([response.status, (await errorOf(response)).param]).toEqual([400, "bad_words"]);
});
