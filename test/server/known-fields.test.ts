import type { Hono } from "hono";
import OpenAI from "openai";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import type { AppEnv } from "../../server/exchange.js";
import { HARMLESS_FIELDS, REFUSED_FIELDS } from "../../server/openai/request/known-fields.js";
import { scriptedEngine } from "./scripted-engine.js";
import { openTraces } from "./trace-wire.js";
import { errorOf } from "./wire.js";
import { appOf, withServer } from "./with-server.js";

const ENDPOINTS = {
  "/v1/completions": { prompt: "Once", max_tokens: 2 },
  "/v1/chat/completions": { messages: [{ role: "user", content: "Once" }], max_tokens: 2 },
};
type Path = keyof typeof ENDPOINTS;
const PATHS: readonly Path[] = ["/v1/completions", "/v1/chat/completions"];
/** Names of the table that one of the two interfaces has itself. */
const OWN: Readonly<Record<Path, readonly string[]>> = {
  "/v1/completions": ["add_special_tokens", "echo", "prompt"],
  "/v1/chat/completions": ["max_completion_tokens", "messages", "reasoning_effort", "top_logprobs"],
};

const app = appOf(scriptedEngine());
const strict = appOf(scriptedEngine(), { settings: { strictFields: true } });
const ask = (to: Hono<AppEnv>, path: Path, body: object) =>
  to.request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...ENDPOINTS[path], ...body }),
  });
const refusalOf = async (to: Hono<AppEnv>, path: Path, body: object) => {
  const response = await ask(to, path, body);
  return [response.status, (await errorOf(response)).param];
};

/** What clients of other servers send to be answered differently, in the words of those servers. */
const ASKING: readonly object[] = [
  { guided_json: { type: "object" } },
  { guided_regex: "\\d+" },
  { guided_choice: ["yes", "no"] },
  { guided_grammar: "root ::= x" },
  { guided_decoding_backend: "outlines" },
  { structured_outputs: { choice: ["yes", "no"] } },
  { grammar: 'root ::= "a"' },
  { json_schema: { type: "object" } },
  { response_format: { type: "json_object" } },
  { response_format: { type: "json_schema", json_schema: { name: "a", schema: {} } } },
  { regex: "a+" },
  { ebnf: "root ::= a" },
  { truncate_prompt_tokens: 5 },
  { best_of: 2 },
  { n: 2, best_of: 3 },
  { suffix: "the end" },
  { use_beam_search: true },
  { length_penalty: 0.5 },
  { early_stopping: true },
  { logits_processors: ["a.b"] },
  { thinking_token_budget: 5 },
  { documents: [{ text: "a" }] },
  { kv_transfer_params: { do_remote_prefill: true } },
  { prompt_embeds: "AAAA" },
  { mm_processor_kwargs: { fps: 1 } },
  { repetition_detection: { max_pattern_size: 3 } },
  { lora_path: "a" },
  { n_probs: 5 },
  { n_predict: 5 },
  { mirostat: 2 },
  { typical_p: 0.5 },
  { dynatemp_range: 0.5 },
  { dry_multiplier: 0.8 },
  { dry_base: 2 },
  { dry_base: 2, dry_multiplier: 0.8 },
  { xtc_probability: 0.5 },
  { samplers: ["top_k"] },
  { repeat_penalty: 1.1 },
  { enable_thinking: false },
  { tools: [{ type: "function", function: { name: "f" } }] },
  { tool_choice: "required" },
  { web_search_options: {} },
  { audio: { voice: "ash", format: "wav" } },
];

/** What they send without wanting anything by it. */
const NEUTRAL: readonly object[] = [
  { best_of: 1 },
  { best_of: 0 },
  { n: 2, best_of: 2 },
  { suffix: "", logits_processors: [], documents: [], tools: [], tool_choice: "none" },
  { use_beam_search: false, length_penalty: 1.0, early_stopping: false },
  { use_beam_search: false, length_penalty: 0.3, early_stopping: true },
  { dry_multiplier: 0, dry_base: 2, dry_allowed_length: 3, dry_sequence_breakers: ["x"] },
  { xtc_probability: 0, xtc_threshold: 0.4, mirostat_mode: 0, mirostat_tau: 8, mirostat_eta: 0.2 },
  { typical_p: 1, tfs: 1, top_a: 0, repeat_penalty: 1, repeat_last_n: 64, n_probs: 0 },
  { response_format: { type: "text" }, modalities: ["text"], verbosity: "medium", truncate_prompt_tokens: -1 },
];

describe.each(PATHS)("POST %s", (path) => {
  test.each(ASKING)("%j is refused by name", async (body) => {
    const [status, param] = await refusalOf(app, path, body);
    expect([status, Object.keys(body)]).toEqual([400, expect.arrayContaining([param])]);
  });

  test("every field of the table is refused where it asks for something, and taken where it does not", async () => {
    for (const [name, { nothing }] of REFUSED_FIELDS) {
      if (OWN[path].includes(name)) continue;
      expect(await refusalOf(app, path, { [name]: { asks: "something" } })).toEqual([400, name]);
      for (const value of [null, ...nothing]) {
        const response = await ask(strict, path, { [name]: value });
        expect([name, value, response.status]).toEqual([name, value, 200]);
      }
    }
  });

  test.each(NEUTRAL)("%j is taken, also strictly", async (body) => {
    const response = await ask(strict, path, body);
    expect([response.status, response.headers.get("x-ignored-fields")]).toEqual([200, null]);
  });

  test("what changes no answer is taken in silence, whatever it says", async () => {
    const body = Object.fromEntries([...HARMLESS_FIELDS].map((name) => [name, { any: "thing" }]));
    const response = await ask(strict, path, { ...body, user: "me" });
    expect([response.status, response.headers.get("x-ignored-fields")]).toEqual([200, null]);
  });

  test("what nobody knows is named in a header, or refused by a strict server", async () => {
    const body = { temprature: 0, größe: 1, "a,b\r\nX: y": 2, ["__proto__"]: 1, toString: 1, stream: true };
    const response = await ask(app, path, body);
    expect(response.status).toBe(200);
    const header = "temprature,gr%C3%B6%C3%9Fe,a%2Cb%0D%0AX%3A%20y,__proto__,toString";
    expect(response.headers.get("x-ignored-fields")).toBe(header);
    expect(response.headers.get("access-control-expose-headers")).toBe(null);
    await response.text();
    expect(await refusalOf(strict, path, body)).toEqual([400, "temprature"]);
    expect(await refusalOf(strict, path, { toString: 1 })).toEqual([400, "toString"]);
  });

  test("of very many, and of very long names, the header has what fits 1 kB", async () => {
    const names = Array.from({ length: 1000 }, (_, i) => `field_${i}`);
    const many = await ask(app, path, Object.fromEntries(names.map((name) => [name, 1])));
    const told = many.headers.get("x-ignored-fields")?.split(",") ?? [];
    expect(told).toEqual(names.slice(0, told.length));
    expect(told.join().length).toBeGreaterThan(900);
    expect(told.join().length).toBeLessThanOrEqual(1024);
    const long = await ask(app, path, { ["\u{1f600}".repeat(5000)]: 1, short: 1 });
    expect(long.headers.get("x-ignored-fields")?.length).toBeLessThanOrEqual(1024);
    expect(long.headers.get("x-ignored-fields")).toMatch(/^%F0%9F%98%80/);
  });

  test("stream_options without stream is nothing, but a strict server refuses it", async () => {
    const body = { stream: false, stream_options: { include_usage: true } };
    expect((await ask(app, path, body)).status).toBe(200);
    expect(await refusalOf(strict, path, body)).toEqual([400, "stream_options"]);
    expect((await ask(strict, path, { ...body, stream: true })).status).toBe(200);
  });

  test.each([
    [{ features: { sae: ["early"] } }, "features.sae"],
    [{ features: { activation: { top_k: 5, k: 5 } } }, "features.activation.k"],
    [{ lm_infinite: { windw: 5 } }, "lm_infinite.windw"],
    [{ lm_infinite: { retrieve: { topk: 5 } } }, "lm_infinite.retrieve.topk"],
    [{ edits: [{ sae: "early", feature: 1, op: "add", value: 1, layer: 3 }] }, "edits[0].layer"],
  ])("%j: our own fields are always strict", async (body, param) => {
    expect(await refusalOf(app, path, body)).toEqual([400, param]);
  });

  test("the log says once what was ignored", async () => {
    const lines: string[] = [];
    const logger = pino({ level: "info" }, { write: (line) => lines.push(line) });
    await ask(appOf(scriptedEngine(), { logger }), path, { temprature: 0, seeed: 1 });
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ ignoredFields: "temprature,seeed" }]);
  });
});

test("a browser may read the header, over a real socket", async () => {
  await withServer(scriptedEngine(), async ({ url }) => {
    for (const stream of [true, false]) {
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Origin: "http://localhost:3000" },
        body: JSON.stringify({ prompt: "Once", max_tokens: 1, stream, temprature: 0 }),
      });
      expect(response.headers.get("x-ignored-fields")).toBe("temprature");
      expect(response.headers.get("access-control-expose-headers")).toMatch(/\bX-Ignored-Fields\b/);
      await response.text();
    }
  });
});

test("the official client's extra fields arrive at the top level", async () => {
  await withServer(scriptedEngine(), async ({ url }) => {
    const client = new OpenAI({ apiKey: "none", baseURL: `${url}/v1`, maxRetries: 0 });
    const body = { model: "org/words", prompt: "Once", max_tokens: 1 };
    const guided = { ...body, guided_choice: ["yes", "no"] };
    await expect(client.completions.create(guided)).rejects.toMatchObject({ status: 400, param: "guided_choice" });
    const extra = { ...body, top_k: 5, my_field: 1 };
    const { response } = await client.completions.create(extra).withResponse();
    expect(response.headers.get("x-ignored-fields")).toBe("my_field");
  });
});

test("a trace's first frames name what was ignored; a strict server refuses it", async () => {
  const generate = { type: "generate", id: "a", prompt: "Once", max_tokens: 1, n: 2 };
  await withServer(scriptedEngine(), async ({ url }) => {
    const traces = await openTraces(url);
    traces.send({ ...generate, größe: 1, temprature: 0 }, { ...generate, id: "b" });
    await traces.have("end", 4);
    const starts = traces.frames
      .filter(({ type }) => type === "start")
      .map(({ id, ignored_fields: told }) => [id, told]);
    expect(starts).toEqual([
      ["a", ["größe", "temprature"]],
      ["a", ["größe", "temprature"]],
      ["b", undefined],
      ["b", undefined],
    ]);
    traces.send({ ...generate, id: "c", guided_json: {} });
    await traces.have("error");
    expect(traces.of("c")).toMatchObject([{ type: "error", error: { param: "guided_json" } }]);
  });
  await withServer(
    scriptedEngine(),
    async ({ url }) => {
      const traces = await openTraces(url);
      traces.send({ ...generate, temprature: 0 });
      await traces.have("error");
      expect(traces.frames).toMatchObject([{ type: "error", error: { param: "temprature" } }]);
    },
    { settings: { strictFields: true } },
  );
});
