import type { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { ChatTemplateFailed, ChatTemplateUnsupported, InvalidRequest } from "../../runtime/contract/errors.js";
import type { AppEnv } from "../../server/exchange.js";
import { END_OF_TURN, endEvent, scriptedEngine, wordEvent, words } from "./scripted-engine.js";
import { completionOf, errorOf, WireChat, WireChatChunk } from "./wire.js";
import { appOf, complete, eventsOf, until, withServer } from "./with-server.js";

const messages = [{ role: "user", content: "Once upon" }];
const json = { "Content-Type": "application/json" };
const chat = (app: Hono<AppEnv>, body: object, path = "/v1/chat/completions") =>
  app.request(path, { method: "POST", headers: json, body: JSON.stringify({ messages, max_tokens: 3, ...body }) });
const answerOf = async (app: Hono<AppEnv>, body: object) => WireChat.parse(await (await chat(app, body)).json());
const choiceOf = async (app: Hono<AppEnv>, body: object) => {
  const [choice] = (await answerOf(app, body)).choices;
  return choice ?? expect.fail("no choice");
};
/** Every chunk of a stream that ends with [DONE]. */
async function chunksOf(app: Hono<AppEnv>, body: object) {
  const events = eventsOf(await (await chat(app, { ...body, stream: true })).text());
  expect(events.pop()).toBe("[DONE]");
  return events.map((event) => WireChatChunk.parse(JSON.parse(event)));
}

describe("POST /v1/chat/completions", () => {
  it("answers in OpenAI's shape", async () => {
    const response = await chat(appOf(scriptedEngine()), {});
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      id: expect.stringMatching(/^chatcmpl-/),
      object: "chat.completion",
      created: expect.any(Number),
      model: "org/words",
      system_fingerprint: "b0.0.0",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: " w100 w101 w102", refusal: null },
          logprobs: null,
          finish_reason: "length",
          stop_reason: null,
        },
      ],
      usage: { prompt_tokens: 4, completion_tokens: 3, total_tokens: 7, prompt_tokens_details: { cached_tokens: 0 } },
    });
  });

  it("streams the role first, the end last and alone in having a reason, then usage and [DONE]", async () => {
    const parsed = await chunksOf(appOf(scriptedEngine()), { n: 2, stream_options: { include_usage: true } });
    expect(new Set(parsed.map(({ id }) => id)).size).toBe(1);
    const last = parsed.pop();
    expect(last).toMatchObject({ choices: [], usage: { prompt_tokens: 4, completion_tokens: 6 } });
    for (const index of [0, 1]) {
      const own = parsed.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
      expect(own.map(({ delta }) => delta)).toEqual([
        { role: "assistant", content: "" },
        { content: " w100" },
        { content: " w101" },
        { content: " w102" },
        {},
      ]);
      expect(own.map(({ finish_reason }) => finish_reason)).toEqual([null, null, null, null, "length"]);
    }
  });

  it("ends by itself where no length is named: at the trained length, after 256 tokens, or as the server has it", async () => {
    const engine = scriptedEngine({ card: { trainedLength: 1000 } });
    const asked = async (body: object, defaultMaxTokens?: number, maxTokensLimit?: number) => {
      const app = appOf(engine, { settings: { defaultMaxTokens, maxTokensLimit } });
      await chat(app, { max_tokens: undefined, stream: true, ...body });
      return engine.requests.pop()?.[0]?.maxTokens;
    };
    const long = { messages: [{ role: "user", content: "long ".repeat(900) }] };
    expect(await asked({})).toBe(996);
    expect(await asked(long)).toBe(256);
    expect(await asked(long, 20)).toBe(20);
    expect(await asked({}, 20, 10)).toBe(10);
    expect(await asked({ min_tokens: 30 }, 20)).toBe(30);
    expect(await asked({ max_tokens: 7 }, 20)).toBe(7);
    expect(await asked({ max_tokens: null }, 20)).toBe(null);
    expect(await asked({ max_tokens: -1 }, 20)).toBe(null);
    expect(await asked({ max_completion_tokens: null }, 20)).toBe(null);
  });

  it("ends where the model's authors say, unless the server or the request says otherwise", async () => {
    const engine = scriptedEngine({ card: { maxNewTokens: 40 } });
    const asked = async (body: object, defaultMaxTokens?: number) => {
      await chat(appOf(engine, { settings: { defaultMaxTokens } }), { max_tokens: undefined, stream: true, ...body });
      return engine.requests.pop()?.[0]?.maxTokens;
    };
    expect(await asked({})).toBe(40);
    expect(await asked({}, 20)).toBe(20);
    expect(await asked({ max_tokens: 50 })).toBe(50);
  });

  it("generates until a stop where that is asked for, within the server's limit", async () => {
    const engine = scriptedEngine();
    const limited = appOf(engine, { settings: { maxTokensLimit: 5 } });
    expect(await (await chat(limited, { max_tokens: null })).json()).toMatchObject({ usage: { completion_tokens: 5 } });
    for (const field of ["max_tokens", "max_completion_tokens", "min_tokens"]) {
      const response = await chat(limited, { max_tokens: undefined, [field]: 6 });
      expect([response.status, (await errorOf(response)).param]).toEqual([400, field]);
    }
    const until = scriptedEngine({
      async *script(sequence, index) {
        expect(sequence.maxTokens).toBe(null);
        yield endEvent(sequence, index, 0, "stop");
      },
    });
    expect((await chat(appOf(until), { max_tokens: null })).status).toBe(200);
  });

  it("takes max_completion_tokens as max_tokens, and before it", async () => {
    for (const tokens of [
      { max_tokens: undefined, max_completion_tokens: 2 },
      { max_tokens: 5, max_completion_tokens: 2 },
      { max_tokens: 2, max_completion_tokens: null },
    ])
      expect((await answerOf(appOf(scriptedEngine()), tokens)).usage.completion_tokens).toBe(2);
  });

  it("gives log-probabilities with bytes and the likeliest tokens, whole and streamed alike", async () => {
    const app = appOf(scriptedEngine());
    const body = { logprobs: true, top_logprobs: 2, max_tokens: 2 };
    const choice = await choiceOf(app, body);
    const token = (text: string, logprob: number) => ({ token: text, logprob, bytes: [...Buffer.from(text)] });
    expect(choice.logprobs).toEqual({
      content: [
        { ...token(" w100", -0.1), top_logprobs: [token(" w100", -0.1), token(" w101", -0.101)] },
        { ...token(" w101", -0.101), top_logprobs: [token(" w101", -0.101), token(" w102", -0.102)] },
      ],
      refusal: null,
    });
    const chunks = await chunksOf(app, body);
    const streamed = chunks.flatMap(({ choices }) => choices.flatMap(({ logprobs }) => logprobs?.content ?? []));
    expect(streamed).toEqual(choice.logprobs?.content);
    const alone = await choiceOf(app, { logprobs: true, max_tokens: 1 });
    expect(alone.logprobs?.content[0]?.top_logprobs).toEqual([]);
  });

  it("lists no log-probability of the token that ends the text, which is no part of it", async () => {
    for (const [end, body] of [
      [END_OF_TURN, {}],
      [1, {}],
      [5, { stop_token_ids: [5] }],
    ] as const) {
      const engine = scriptedEngine({
        async *script(sequence, index) {
          yield wordEvent(sequence, index, 0);
          const last = wordEvent(sequence, index, 1, "");
          if (last.type === "token") yield { ...last, tokenId: end };
          yield endEvent(sequence, index, 2, "stop", end);
        },
      });
      const app = appOf(engine);
      const asked = { logprobs: true, return_token_ids: true, ...body };
      const choice = await choiceOf(app, asked);
      expect(choice.logprobs?.content.map(({ token }) => token).join("")).toBe(choice.message.content);
      expect(choice.token_ids).toEqual([100, end]);
      const chunks = (await chunksOf(app, asked)).flatMap(({ choices }) => choices);
      expect(chunks.flatMap(({ logprobs }) => logprobs?.content ?? [])).toHaveLength(1);
      const { choices } = await completionOf(
        await complete(app, { prompt: "a", logprobs: 0, stop_token_ids: [end], max_tokens: 5 }),
      );
      expect(choices[0]?.logprobs?.tokens).toHaveLength(2);
    }
  });

  it("says which bytes a token has that is part of a character", async () => {
    const engine = scriptedEngine();
    const half = { ...engine, tokenTexts: (ids: ArrayLike<number>) => Array.from(ids, () => "bytes:\\xe2\\x82") };
    const { logprobs } = await choiceOf(appOf(half), { logprobs: true, max_tokens: 1 });
    expect(logprobs?.content[0]?.bytes).toEqual([0xe2, 0x82]);
  });

  it("ends with the turn, which is no stop token of the request's, unless it goes on regardless", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        yield endEvent(sequence, index, 1, "stop", sequence.stopTokenIds.at(-1) ?? null);
      },
    });
    const app = appOf(engine);
    const reasonOf = async (body: object) => (await choiceOf(app, body)).stop_reason;
    expect(await reasonOf({})).toBe(null);
    expect(engine.requests.at(-1)?.[0]?.stopTokenIds).toEqual([END_OF_TURN]);
    expect(await reasonOf({ stop_token_ids: [5] })).toBe(null);
    expect(engine.requests.at(-1)?.[0]?.stopTokenIds).toEqual([5, END_OF_TURN]);
    expect(await reasonOf({ stop_token_ids: [END_OF_TURN] })).toBe(END_OF_TURN);
    expect(await reasonOf({ ignore_eos: true, stop_token_ids: [5] })).toBe(5);
    expect(engine.requests.at(-1)?.[0]?.stopTokenIds).toEqual([5]);
  });

  it("asks the engine for what a completion would ask, with the template's tokens as they are", async () => {
    const engine = scriptedEngine();
    const app = appOf(engine);
    const fields = {
      seed: 7,
      n: 2,
      temperature: 0.3,
      top_p: 0.5,
      top_k: 3,
      min_p: 0.1,
      min_tokens: 1,
      stop: "x",
      logit_bias: { 5: 2 },
      presence_penalty: 1,
      repetition_penalty: 2,
      lm_infinite: { window: 8 },
      features: { top: 2, prompt: true },
      edits: [{ sae: "early", feature: 1, op: "ablate" }],
      edits_from: "prompt",
    };
    await chat(app, fields);
    const [asked] = engine.requests.splice(0);
    const prompt = [...(asked?.[0]?.prompt ?? [])];
    expect(prompt).not.toContain(0);
    await chat(app, { prompt, messages: undefined, stop_token_ids: [END_OF_TURN], ...fields }, "/v1/completions");
    expect(asked).toEqual(engine.requests[0]);
  });

  it("has features in each choice and in each chunk", async () => {
    const app = appOf(scriptedEngine());
    const body = { features: { saes: ["early"], top: 2, prompt: true }, max_tokens: 2, return_token_ids: true };
    const choice = await choiceOf(app, body);
    expect(choice.features?.map(({ pos }) => pos)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(choice.token_ids).toEqual([100, 101]);
    expect(choice.prompt_token_ids).toHaveLength(4);
    const chunks = (await chunksOf(app, body)).flatMap(({ choices }) => choices);
    expect(chunks.flatMap(({ features }) => features)).toEqual(choice.features);
    expect(chunks.filter(({ prompt_token_ids }) => prompt_token_ids).length).toBe(1);
  });

  it("gives the template the messages as they are meant", async () => {
    const engine = scriptedEngine();
    const seen: unknown[] = [];
    const app = appOf({
      ...engine,
      chatPrompt: async (conversation) => {
        seen.push(conversation);
        return { ids: Int32Array.of(2), turnEndIds: [] };
      },
    });
    const messages =
      '[{"role":"developer","content":[{"type":"text","text":"a"}]}, {"role":"assistant","content":null,' +
      '"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\\"x\\": 1.0}"}}]},' +
      ' {"role":"tool","content":"d","tool_call_id":"c"}, {"role":"assistant","content":"e","refusal":null,"odd":1.0} ]';
    const body = `{"messages": ${messages}, "chat_template_kwargs": {"enable_thinking": false, "n": 1.0}, "continue_final_message": true, "max_tokens": 1}`;
    await app.request("/v1/chat/completions", { method: "POST", headers: json, body });
    expect(seen).toEqual([
      {
        messages,
        addGenerationPrompt: false,
        continueFinalMessage: true,
        tools: null,
        variables: { enable_thinking: "false", n: "1.0" },
      },
    ]);
    await chat(app, { add_generation_prompt: false });
    expect(seen.pop()).toMatchObject({ addGenerationPrompt: false, continueFinalMessage: false, variables: {} });
  });

  it("takes messages as OpenAI's clients send them", async () => {
    const app = appOf({ ...scriptedEngine(), chatPrompt: async () => ({ ids: Int32Array.of(2), turnEndIds: [] }) });
    expect((await chat(app, { messages: OPENAI })).status).toBe(200);
  });

  it("takes what asks for nothing, as clients send it", async () => {
    const nothing = {
      tools: [],
      tool_choice: "auto",
      functions: null,
      function_call: "none",
      response_format: { type: "text" },
      modalities: ["text"],
      audio: null,
      prediction: null,
      parallel_tool_calls: true,
      store: false,
      metadata: {},
      top_logprobs: 0,
      logprobs: false,
      stream_options: null,
      user: "u",
    };
    expect((await chat(appOf(scriptedEngine()), nothing)).status).toBe(200);
  });
});

const call = { id: "c", type: "function", function: { name: "f", arguments: "" } };
const OPENAI = [
  { role: "developer", content: [] },
  { role: "user", content: null },
  { role: "user", content: [{ type: "text", text: "" }], name: null },
  {
    role: "assistant",
    content: [{ type: "refusal", refusal: "no" }],
    refusal: "no",
    audio: null,
    function_call: null,
  },
  { role: "assistant", content: null, tool_calls: [call] },
  { role: "assistant", tool_calls: [call] },
  { role: "tool", content: "x", tool_call_id: "c" },
  { role: "function", content: "x", name: "f" },
  { role: "assistant", content: "", tool_calls: [] },
];

const text = (content: unknown, role = "user") => ({ messages: [{ role, content }] });
const REFUSED: Record<string, object> = {
  messages: { messages: [] },
  "messages[0].role": text("x", "wizard"),
  "messages[0].content": text(undefined),
  "messages[0].content[0]": text([7]),
  "messages[0].content[1].type": text([
    { type: "text", text: "a" },
    { type: "image_url", image_url: { url: "x" } },
  ]),
  "messages[0].content[0].text": text([{ type: "text", text: 7 }]),
  "messages[0].tool_calls": {
    messages: [{ role: "user", content: "x", tool_calls: [{ function: { name: "f", arguments: "{}" } }] }],
  },
  "messages[0].tool_calls[0].function.arguments": {
    messages: [{ role: "assistant", tool_calls: [{ function: { name: "f", arguments: "{" } }] }],
  },
  "messages[0].function_call": { messages: [{ role: "assistant", content: "x", function_call: {} }] },
  tools: { tools: [{ type: "function" }] },
  tool_choice: { tool_choice: "required" },
  response_format: { response_format: { type: "json_object" } },
  modalities: { modalities: ["audio"] },
  top_logprobs: { top_logprobs: 3 },
  logprobs: { logprobs: 3 },
  max_tokens: { max_tokens: -2 },
  max_completion_tokens: { max_completion_tokens: 1.5 },
  min_tokens: { min_tokens: 4 },
  continue_final_message: { continue_final_message: true, add_generation_prompt: true },
  chat_template: { chat_template: "{{ messages }}" },
  "chat_template_kwargs.messages": { chat_template_kwargs: { messages: [] } },
  "chat_template_kwargs.raise_exception": { chat_template_kwargs: { raise_exception: 1 } },
  echo: { echo: true },
  temperature: { temperature: -1 },
  "features.saes[0]": { features: { saes: ["nope"] } },
  stop_token_ids: { stop_token_ids: [5000] },
};

describe("a chat request that cannot be served", () => {
  for (const [param, body] of Object.entries(REFUSED)) {
    it(`is answered 400 and names ${param}`, async () => {
      const response = await chat(appOf(scriptedEngine()), body);
      const error = await errorOf(response);
      expect([response.status, error.type]).toEqual([400, "invalid_request_error"]);
      expect(error.param?.startsWith(param)).toBe(true);
    });
  }

  it("with a content that is neither text nor parts, or without messages, names them", async () => {
    for (const [body, param] of [
      [text(7), "messages[0].content"],
      [{ messages: undefined }, "messages"],
      [{ messages: "hi" }, "messages"],
    ] as const)
      expect((await errorOf(await chat(appOf(scriptedEngine()), body))).param).toBe(param);
  });

  it("is refused at the first wrong entry of very many, by its place", async () => {
    const wrong = Array(300_000).fill(5);
    const calls = [{ function: { name: "f", arguments: "" } }, ...wrong];
    for (const [body, param] of [
      [{ messages: [{ role: "user", content: "x" }, ...wrong] }, "messages[1]"],
      [{ messages: [{ role: "assistant", tool_calls: calls }] }, "messages[0].tool_calls[1]"],
      [text(wrong), "messages[0].content[0]"],
    ] as const) {
      const response = await chat(appOf(scriptedEngine()), body);
      expect([response.status, (await errorOf(response)).param]).toEqual([400, param]);
    }
  });

  it("has a number in a variable that no double holds", async () => {
    const body = `{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"a": 1, "b": [{"c": 1e999}]}}`;
    const response = await appOf(scriptedEngine()).request("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
    });
    expect([response.status, (await errorOf(response)).param]).toEqual([400, "chat_template_kwargs.b"]);
  });

  it("by the template's word is the client's fault; a broken template is the server's", async () => {
    const failing = (error: Error) => appOf({ ...scriptedEngine(), chatPrompt: () => Promise.reject(error) });
    const refused = await chat(failing(new InvalidRequest("roles must alternate", "messages")), {});
    expect([refused.status, (await errorOf(refused)).param]).toEqual([400, "messages"]);
    const broken = await chat(failing(new ChatTemplateFailed("m: it runs for more than 600 ms")), { stream: true });
    expect([broken.status, await errorOf(broken)]).toEqual([
      500,
      { message: "m: it runs for more than 600 ms", type: "server_error", param: null, code: "chat_template_failed" },
    ]);
  });

  it("by a template that is not supported is answered 400 and a code of its own", async () => {
    const error = new ChatTemplateUnsupported("m: unknown tag 'launch'");
    const response = await chat(appOf({ ...scriptedEngine(), chatPrompt: () => Promise.reject(error) }), {});
    expect([response.status, await errorOf(response)]).toEqual([
      400,
      { message: error.message, type: "invalid_request_error", param: "messages", code: "chat_template_unsupported" },
    ]);
  });

  it("with another method is answered 405", async () => {
    const response = await appOf(scriptedEngine()).request("/v1/chat/completions");
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST, OPTIONS"]);
  });
});

describe("a client that hangs up", () => {
  it("while its messages are rendered starts nothing", async () => {
    let asked: AbortSignal | undefined;
    const engine = {
      ...scriptedEngine(),
      chatPrompt: (_: unknown, signal: AbortSignal): Promise<never> => {
        asked = signal;
        return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    };
    await withServer(engine, async ({ url }) => {
      const client = new AbortController();
      const body = JSON.stringify({ messages });
      const options = { method: "POST", headers: json, body, signal: client.signal };
      const answer = fetch(`${url}/v1/chat/completions`, options);
      await until(() => asked !== undefined);
      client.abort();
      await expect(answer).rejects.toThrow();
      await until(() => asked?.aborted === true);
    });
    expect(engine.requests).toEqual([]);
  });

  it("while it is answered stops its generation", async () => {
    const engine = scriptedEngine({ script: words });
    await withServer(engine, async ({ url }) => {
      const client = new AbortController();
      const body = JSON.stringify({ messages, stream: true });
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: json,
        body,
        signal: client.signal,
      });
      await response.body?.getReader().read();
      client.abort();
      await until(() => engine.load().running === 0);
    });
  });
});
