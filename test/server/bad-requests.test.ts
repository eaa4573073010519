import { describe, expect, test } from "vitest";
import { endEvent, scriptedEngine } from "./scripted-engine.js";
import { errorOf } from "./wire.js";
import { appOf, complete } from "./with-server.js";

const app = appOf(scriptedEngine(), { aliases: ["gpt-3.5-turbo-instruct"] });

describe("a wrong field is refused with 400 that names it", () => {
  test.each<[object, string]>([
    [{ prompt: 5 }, "prompt"],
    [{ prompt: {} }, "prompt"],
    [{ prompt: true }, "prompt"],
    [{ prompt: [] }, "prompt"],
    [{ prompt: [1, "a"] }, "prompt[1]"],
    [{ prompt: ["a", 1] }, "prompt[1]"],
    [{ prompt: ["a", null] }, "prompt[1]"],
    [{ prompt: [1, -2] }, "prompt[1]"],
    [{ prompt: [1.5] }, "prompt[0]"],
    [{ prompt: [1, 1000] }, "prompt[1]"],
    [{ prompt: [1, 2 ** 32 + 2] }, "prompt[1]"],
    [{ prompt: [2 ** 53] }, "prompt[0]"],
    [{ prompt: [[1], []] }, "prompt[1]"],
    [{ prompt: [[1], [2, "b"]] }, "prompt[1][1]"],
    [{ prompt: [[1], [2, 99999]] }, "prompt[1][1]"],
    [{ model: 5 }, "model"],
    [{ suffix: "end" }, "suffix"],
    [{ max_tokens: -2 }, "max_tokens"],
    [{ max_tokens: "20" }, "max_tokens"],
    [{ max_tokens: 1.5 }, "max_tokens"],
    [{ max_tokens: 5, min_tokens: 6 }, "min_tokens"],
    [{ min_tokens: -1 }, "min_tokens"],
    [{ n: 0 }, "n"],
    [{ n: 129 }, "n"],
    [{ n: "2" }, "n"],
    [{ best_of: 2 }, "best_of"],
    [{ n: 2, best_of: 1 }, "best_of"],
    [{ echo: "yes" }, "echo"],
    [{ stream: 1 }, "stream"],
    [{ stream_options: "usage" }, "stream_options"],
    [{ stream_options: { include_usage: 1 } }, "stream_options.include_usage"],
    [{ logprobs: true }, "logprobs"],
    [{ logprobs: -1 }, "logprobs"],
    [{ logprobs: 21 }, "logprobs"],
    [{ temperature: -0.1 }, "temperature"],
    [{ temperature: "hot" }, "temperature"],
    [{ temperature: 101 }, "temperature"],
    [{ temperature: 1e300 }, "temperature"],
    [{ top_p: -1e-9 }, "top_p"],
    [{ top_p: 1.1 }, "top_p"],
    [{ top_k: -2 }, "top_k"],
    [{ min_p: 2 }, "min_p"],
    [{ presence_penalty: 3 }, "presence_penalty"],
    [{ frequency_penalty: -3 }, "frequency_penalty"],
    [{ repetition_penalty: 0 }, "repetition_penalty"],
    [{ repetition_penalty: 5e-324 }, "repetition_penalty"],
    [{ repetition_penalty: 101 }, "repetition_penalty"],
    [{ seed: 1.5 }, "seed"],
    [{ seed: "1" }, "seed"],
    [{ seed: 1e30 }, "seed"],
    [{ stop: "a".repeat(1025) }, "stop"],
    [{ stop: ["a", "é".repeat(1025)] }, "stop[1]"],
    [{ stop: ["a", 5] }, "stop"],
    [{ stop: 5 }, "stop"],
    [{ stop: Array(17).fill("a") }, "stop"],
    [{ stop_token_ids: [-1] }, "stop_token_ids[0]"],
    [{ stop_token_ids: [1, 1000] }, "stop_token_ids[1]"],
    [{ logit_bias: { a: 1 } }, "logit_bias.a"],
    [{ logit_bias: { "5": 101 } }, "logit_bias.5"],
    [{ logit_bias: { "1000": 1 } }, "logit_bias.1000"],
    [{ logit_bias: [1] }, "logit_bias"],
    [{ lm_infinite: 5 }, "lm_infinite"],
    [{ lm_infinite: { window: 0 } }, "lm_infinite.window"],
    [{ lm_infinite: { sinks: -1 } }, "lm_infinite.sinks"],
    [{ lm_infinite: { mode: "half" } }, "lm_infinite.mode"],
    [{ lm_infinite: { windw: 5 } }, "lm_infinite.windw"],
    [{ lm_infinite: { retrieve: 5 } }, "lm_infinite.retrieve"],
    [{ lm_infinite: { retrieve: { k: 0 } } }, "lm_infinite.retrieve.k"],
    [{ lm_infinite: { retrieve: { k: 1.5 } } }, "lm_infinite.retrieve.k"],
    [{ lm_infinite: { retrieve: { from_layer: -1 } } }, "lm_infinite.retrieve.from_layer"],
    [{ lm_infinite: { retrieve: { distance: -1 } } }, "lm_infinite.retrieve.distance"],
    [{ lm_infinite: { retrieve: { fromLayer: 1 } } }, "lm_infinite.retrieve.fromLayer"],
  ])("%j", async (body, param) => {
    const response = await complete(app, { prompt: "a", ...body });
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect(error).toMatchObject({ type: "invalid_request_error", param });
    expect(error.message).toContain(param);
    expect(error.message).not.toContain("undefined");
  });

  test("more prompts than anyone means", async () => {
    expect((await errorOf(await complete(app, { prompt: Array(2049).fill("a") }))).param).toBe("prompt");
    expect((await errorOf(await complete(app, { prompt: Array(17).fill("a"), n: 128 }))).param).toBe("n");
  });

  test("a text for a model without tokenizer", async () => {
    const bare = appOf(scriptedEngine({ card: { hasTokenizer: false } }));
    expect((await errorOf(await complete(bare, { prompt: ["a"] }))).param).toBe("prompt[0]");
    expect((await complete(bare, { prompt: [5] })).status).toBe(200);
  });
});

describe("what clients send and nobody should mind is accepted", () => {
  test("the fields of openai-node's own test, but its suffix", async () => {
    const response = await complete(app, {
      model: "gpt-3.5-turbo-instruct",
      prompt: "This is a test.",
      best_of: 0,
      echo: true,
      frequency_penalty: -2,
      logit_bias: { foo: 0 },
      logprobs: 0,
      max_tokens: 16,
      n: 1,
      presence_penalty: -2,
      seed: -9223372036854776000,
      stop: "\n",
      stream: false,
      stream_options: { include_usage: true, include_obfuscation: true },
      temperature: 1,
      top_p: 1,
      user: "user-1234",
    });
    expect(response.status).toBe(200);
  });

  test("null for everything, and fields that nobody knows", async () => {
    const fields = [
      "model",
      "suffix",
      "n",
      "best_of",
      "echo",
      "logprobs",
      "seed",
      "stop",
      "stop_token_ids",
      "ignore_eos",
    ];
    const more = [
      "stream",
      "stream_options",
      "temperature",
      "top_p",
      "top_k",
      "min_p",
      "logit_bias",
      "lm_infinite",
      "user",
    ];
    const nulls = Object.fromEntries([...fields, ...more].map((field) => [field, null]));
    const body = {
      ...nulls,
      features: null,
      edits: null,
      edits_from: null,
      prompt: "a",
      skip_special_tokens: true,
      __proto__x: 1,
    };
    expect((await complete(app, body)).status).toBe(200);
  });
});

describe("a wrong body", () => {
  const post = (body: string | Uint8Array, headers: Record<string, string> = { "Content-Type": "application/json" }) =>
    app.request("/v1/completions", { method: "POST", headers, body });

  test.each(["", "{", '{"prompt": "a"', "nonsense", '{"prompt": "a",}', "[".repeat(200_000)])(
    "that is no JSON: 400",
    async (body) => {
      const response = await post(body);
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ type: "invalid_request_error", param: null });
    },
  );

  test.each(["[]", "null", '"a"', "5"])("that is no object: 400 (%s)", async (body) => {
    const response = await post(body);
    expect(response.status).toBe(400);
    expect((await errorOf(response)).message).toContain("expected object");
  });

  test("that is empty: 400 that says so", async () => {
    expect((await errorOf(await post(""))).message).toContain("The body is empty");
  });

  test("with a byte order mark is read without it", async () => {
    expect((await post('\uFEFF{"prompt": "a"}')).status).toBe(200);
  });

  test("that is not UTF-8: 400", async () => {
    expect((await post(new Uint8Array([0x7b, 0xff, 0x7d]))).status).toBe(400);
  });

  test("nested deeply: 400, and as deep as nobody minds: taken", async () => {
    const nested = (depth: number) => post(`{"prompt": "a", "x": ${"[".repeat(depth)}${"]".repeat(depth)}}`);
    expect((await errorOf(await nested(100_000))).message).toContain("nested deeper than 32");
    expect((await errorOf(await nested(32))).message).toContain("nested deeper than 32");
    expect((await nested(31)).status).toBe(200);
  });

  test("of another media type or encoding: 415", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"]) {
      expect((await post("{}", { "Content-Type": type })).status).toBe(415);
    }
    const none = await post(new Uint8Array(2), {});
    expect(none.status).toBe(415);
    expect((await errorOf(none)).message).toContain("Content-Type: application/json");
    expect((await post("{}", { "Content-Type": "application/json", "Content-Encoding": "gzip" })).status).toBe(415);
    for (const type of [
      "Application/JSON; charset=utf-8",
      "application/json;charset=latin1",
      "application/vnd.api+json",
    ])
      expect((await post('{"prompt":"a"}', { "Content-Type": type })).status).toBe(200);
  });

  test("over the limit: 413", async () => {
    const response = await post(JSON.stringify({ prompt: "a".repeat(1 << 20) }));
    expect(response.status).toBe(413);
    expect((await errorOf(response)).code).toBe("body_too_large");
  });
});

describe("a body as large as the server takes", () => {
  const LARGEST = 32 << 20;
  const engine = scriptedEngine({
    room: 2048,
    async *script(sequence, index) {
      yield endEvent(sequence, index, 0);
    },
  });
  const large = appOf(engine, { settings: { maxBodyBytes: LARGEST } });
  /** As many of the unit as there is room for. */
  const full = (begin: string, unit: string, end: string) =>
    begin + unit.repeat((LARGEST - begin.length - end.length) / unit.length) + end;

  test.each([
    ["empty objects", '{"prompt":[', "{},", "{}]}", "it has more than 262144 arrays and members"],
    ["members", "{", '"a":1,', '"b":1}', "it has more than 262144 arrays and members"],
    ["arrays in a field that nobody reads", '{"prompt":"a","x":[', "[],", "1]}", "it has more than 262144 arrays"],
    ["arrays that do not end", "", "[", "", "it is nested deeper than 32"],
  ])("is refused before anything is built of it: %s", async (_, begin, unit, end, reason) => {
    const response = await complete(large, full(begin, unit, end));
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect(error).toMatchObject({ type: "invalid_request_error", param: null });
    expect(error.message).toContain(`The body cannot be read as JSON: ${reason}`);
  });

  test("is taken: a prompt of millions of token ids", async () => {
    expect((await complete(large, full('{"prompt":[', "999,", "1]}"))).status).toBe(200);
    expect(engine.requests.pop()?.[0]?.prompt.length).toBeGreaterThan(8_000_000);
  });

  test("is taken: as many prompts as anyone means, in token ids or in words", async () => {
    const ids = Array.from({ length: 4000 }, (_, i) => 100 + (i % 900));
    for (const prompt of [ids, "é".repeat(7500)]) {
      expect((await complete(large, { prompt: Array(2048).fill(prompt) })).status).toBe(200);
      expect(engine.requests.pop()).toHaveLength(2048);
    }
  });

  test("is taken: a text full of brackets, colons, quotes and backslashes", async () => {
    expect((await complete(large, full('{"prompt":"', String.raw`[{:\\\"`, '"}'))).status).toBe(200);
  });
});

describe("a wrong place", () => {
  test("unknown model: 404 model_not_found", async () => {
    for (const response of [
      await complete(app, { model: "nope", prompt: "a" }),
      await app.request("/v1/models/nope"),
    ]) {
      expect(response.status).toBe(404);
      expect(await errorOf(response)).toMatchObject({ param: "model", code: "model_not_found" });
    }
  });

  test("unknown path: 404", async () => {
    const response = await app.request("/v1/nothing", { method: "POST" });
    expect(response.status).toBe(404);
    const error = await errorOf(response);
    expect(error.code).toBe("unknown_url");
    expect(error.message).toContain("GET / lists what is served");
  });

  test.each([
    ["/completions", "/v1/completions"],
    ["/chat/completions", "/v1/chat/completions"],
    ["/v1/v1/chat/completions", "/v1/chat/completions"],
    ["/api/v1/completions/", "/v1/completions"],
    ["/openai/deployments/gpt/chat/completions", "/v1/chat/completions"],
    ["/models", "/v1/models"],
    ["/models/org/words", "/v1/models/org/words"],
    ["/saes/early/features/1", "/v1/saes/early/features/1"],
    ["/traces", "/v1/traces"],
    ["/v1/health", "/health"],
  ])("%s: 404 that says where it is", async (path, meant) => {
    const response = await app.request(path, { method: "POST" });
    expect(response.status).toBe(404);
    expect((await errorOf(response)).message).toContain(`did you mean ${meant}?`);
  });

  test("a slash at the end makes no other place", async () => {
    for (const path of ["/v1/models/", "/v1/models/org/words/", "/v1/saes/early/", "/health/"])
      expect((await app.request(path)).status).toBe(200);
    expect((await app.request("/v1/completions/")).status).toBe(405);
  });

  test("HEAD is answered as GET, and OPTIONS says what is allowed", async () => {
    const head = await app.request("/v1/models", { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    const options = await app.request("/v1/chat/completions", { method: "OPTIONS" });
    expect([options.status, options.headers.get("allow")]).toEqual([204, "POST, OPTIONS"]);
    expect((await app.request("/v1/nothing", { method: "OPTIONS" })).status).toBe(404);
  });

  test.each([
    ["GET", "/v1/completions", "POST, OPTIONS"],
    ["DELETE", "/v1/models", "GET, HEAD, OPTIONS"],
    ["POST", "/v1/models/org/words", "GET, HEAD, OPTIONS"],
    ["GET", "/v1/features", "POST, OPTIONS"],
    ["POST", "/v1/saes", "GET, HEAD, OPTIONS"],
    ["PUT", "/v1/saes/early", "GET, HEAD, OPTIONS"],
    ["POST", "/v1/saes/early/features/1", "GET, HEAD, OPTIONS"],
    ["POST", "/", "GET, HEAD, OPTIONS"],
    ["PUT", "/health", "GET, HEAD, OPTIONS"],
  ])("%s %s: 405", async (method, path, allow) => {
    const response = await app.request(path, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe(allow);
    expect((await errorOf(response)).code).toBe("method_not_allowed");
  });
});

describe("no room", () => {
  const silent = () =>
    scriptedEngine({
      room: 1,
      async *script(sequence, index, signal) {
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        yield endEvent(sequence, index, 0);
      },
    });

  test.each([false, true])("a full queue answers 429 and says when to come back (stream: %s)", async (stream) => {
    const engine = silent();
    const full = appOf(engine);
    const first = await complete(full, { prompt: "a", stream: true });
    const response = await complete(full, { prompt: "a", stream });
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("1");
    expect((await errorOf(response)).code).toBe("queue_full");
    await first.body?.cancel();
  });

  test("a draining engine answers 503", async () => {
    const engine = scriptedEngine();
    await engine.drain();
    const response = await complete(appOf(engine), { prompt: "a" });
    expect(response.status).toBe(503);
    expect((await errorOf(response)).code).toBe("shutting_down");
  });
});
