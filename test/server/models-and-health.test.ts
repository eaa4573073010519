import { setImmediate as nextTurn } from "node:timers/promises";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { createModelRegistry } from "../../server/model-registry.js";
import { endEvent, scriptedEngine, wordEvent } from "./scripted-engine.js";
import { completionOf } from "./wire.js";
import { appOf, complete, until } from "./with-server.js";

const ModelList = z.strictObject({ object: z.string(), data: z.array(z.looseObject({ id: z.string() })) });

test("GET / says what this is, and every path it names is there", async () => {
  const app = appOf(scriptedEngine(), { aliases: ["words"] });
  const Index = z.object({ name: z.literal("lambdatap"), models: z.array(z.string()), endpoints: z.array(Endpoint) });
  const { models, endpoints } = Index.parse(await (await app.request("/")).json());
  expect(models).toEqual(["org/words", "words"]);
  expect(endpoints.map(({ path }) => path)).toContain("/v1/chat/completions");
  for (const { method, path } of endpoints) {
    const response = await app.request(path.replace("/v1/models/{id}", "/v1/models/words").replace("{id}", "early"), {
      method,
    });
    expect([path, response.status]).not.toEqual([path, 404]);
    expect([path, response.status]).not.toEqual([path, 405]);
  }
});
const Endpoint = z.object({ method: z.string(), path: z.string(), about: z.string() });

describe("GET /v1/models", () => {
  const app = appOf(scriptedEngine(), { aliases: ["words", "gpt-3.5-turbo-instruct"] });

  test("lists the model and its aliases, with what it is", async () => {
    const { object, data } = ModelList.parse(await (await app.request("/v1/models")).json());
    expect(object).toBe("list");
    expect(data.map(({ id }) => id)).toEqual(["org/words", "words", "gpt-3.5-turbo-instruct"]);
    expect(data[0]).toEqual({
      id: "org/words",
      object: "model",
      created: 1_700_000_000,
      owned_by: "lambdatap",
      lambdatap: {
        alias_of: null,
        architecture: "llama",
        precision: "f32",
        kv: "f32",
        device: "cpu",
        hardware: null,
        window: 32,
        sinks: 4,
        archive_tokens: 4096,
        trained_length: 64,
        longest: null,
        parallel: 4,
        vocab_size: 1000,
        layers: 2,
        hidden_size: 8,
        hooks: ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"],
        saes: ["early", "late"],
        has_tokenizer: true,
        has_chat_template: true,
        bos_token_id: 0,
        adds_bos: true,
        tokens_before: [0],
        tokens_after: [],
        eos_token_ids: [1],
        sampling: { temperature: 0.8, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1 },
      },
    });
  });

  test.each(["org/words", "org%2Fwords", "words"])("/%s is retrieved by its name", async (name) => {
    const response = await app.request(`/v1/models/${name}`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ id: decodeURIComponent(name) });
  });

  test("an alias answers under its own name", async () => {
    expect((await completionOf(await complete(app, { model: "words", prompt: "a" }))).model).toBe("words");
  });

  test("two models of one name do not start", () => {
    const models = [
      { engine: scriptedEngine() },
      { engine: scriptedEngine({ card: { id: "b" } }), aliases: ["org/words"] },
    ];
    expect(() => createModelRegistry(models)).toThrow("two models are named 'org/words'");
  });
});

describe("GET /health", () => {
  test("counts what runs, and turns 503 when the server drains", async () => {
    let draining = false;
    const engine = scriptedEngine();
    const app = appOf(engine, { isDraining: () => draining });
    const stream = await complete(app, { prompt: "a", n: 3, max_tokens: null, stream: true });
    const busy = await app.request("/health");
    expect([busy.status, await busy.json()]).toEqual([
      200,
      { status: "ok", running: 3, waiting: 0, memory: { rss: expect.any(Number), prefixes: 0 }, saturated: 0 },
    ]);
    await stream.body?.cancel();
    draining = true;
    expect((await app.request("/health")).status).toBe(503);
  });

  test("turns 503 when an engine has failed, and says why", async () => {
    const failure = "The GPU was lost (an illegal memory access was encountered); start the server again";
    const app = appOf({ ...scriptedEngine(), failure });
    const response = await app.request("/health");
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ status: "failed", failures: [failure], running: 0 });
  });

  test("the GPU that a model runs on is named", async () => {
    const app = appOf(scriptedEngine({ card: { device: "cuda:1", hardware: "NVIDIA H100" } }));
    const response = await app.request("/v1/models/org%2Fwords");
    expect(await response.json()).toMatchObject({ lambdatap: { device: "cuda:1", hardware: "NVIDIA H100" } });
  });
});

test("GET /health tells the memory of the process in bytes", async () => {
  const { memory } = z
    .object({ memory: z.strictObject({ rss: z.int(), prefixes: z.int() }) })
    .parse(await (await appOf(scriptedEngine()).request("/health")).json());
  const now = process.memoryUsage.rss();
  expect(memory.rss).toBeGreaterThan(now / 2);
  expect(memory.rss).toBeLessThan(now * 2);
});

describe("the log", () => {
  const lines: string[] = [];
  const logger = pino({ level: "info" }, { write: (line) => lines.push(line) });

  test("has one line per request, with its tokens and never its text", async () => {
    const app = appOf(scriptedEngine(), { logger });
    const headers = { "Content-Type": "application/json", "X-Request-Id": "mine-1" };
    const post = (body: string) => app.request("/v1/completions", { method: "POST", headers, body });
    const whole = await post(JSON.stringify({ prompt: "a secret", max_tokens: 2 }));
    expect(whole.headers.get("x-request-id")).toBe("mine-1");
    await (await post(JSON.stringify({ prompt: "a secret", max_tokens: 3, stream: true }))).text();
    await post(JSON.stringify({ prompt: ["a secret", 5] }));
    await post('{"prompt": "a secret');
    await until(() => lines.length === 4);

    const common = { id: "mine-1", method: "POST", path: "/v1/completions", ms: expect.any(Number) };
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { ...common, status: 200, model: "org/words", promptTokens: 3, completionTokens: 2 },
      { ...common, status: 200, model: "org/words", promptTokens: 3, completionTokens: 3 },
      { ...common, status: 400, param: "prompt[1]" },
      { ...common, status: 400, error: "invalid_request_error" },
    ]);
    expect(lines.join("")).not.toContain("secret");
  });

  test("has an id of our own where the client's belongs in no log", async () => {
    const app = appOf(scriptedEngine(), { logger });
    for (const given of ["a b", '"}', "", "x".repeat(101)]) {
      lines.length = 0;
      const response = await app.request("/v1/models", { headers: { "X-Request-Id": given } });
      const id = response.headers.get("x-request-id");
      expect(id).toMatch(/^[0-9a-f]{32}$/);
      expect(JSON.parse(lines[0] ?? "")).toMatchObject({ id, status: 200 });
    }
  });

  test("takes a client who hangs up for nothing worse", async () => {
    lines.length = 0;
    const engine = scriptedEngine({
      async *script(sequence, index, signal) {
        yield wordEvent(sequence, index, 0);
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    });
    const response = await complete(appOf(engine, { logger }), { prompt: "a", max_tokens: null, stream: true });
    const reader = response.body?.getReader();
    await reader?.read();
    const waiting = reader?.read();
    await nextTurn(); // by now the engine is asked for a token that it does not have
    await reader?.cancel();
    await waiting;
    await until(() => engine.stopped === 1);
    await nextTurn();
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ msg: "request", clientGone: true });
  });

  test("names the error of a stream, whose status was already out", async () => {
    lines.length = 0;
    const app = appOf(
      scriptedEngine({
        async *script(sequence, index) {
          yield { type: "error", index, error: { kind: "internal", message: "a bolt came off" } };
          yield endEvent(sequence, index, 0);
        },
      }),
      { logger },
    );
    await (await complete(app, { prompt: "a", stream: true })).text();
    await until(() => lines.length === 2);
    expect(lines[0]).toContain("a bolt came off");
    expect(JSON.parse(lines[1] ?? "")).toMatchObject({ status: 200, error: "internal" });
  });
});
