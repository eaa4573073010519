import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { Hono } from "hono";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LocalEngine } from "../../runtime/engine/engine.js";
import type { AppEnv } from "../../server/exchange.js";
import { completionOf, WireError } from "./wire.js";
import { appOf, complete, eventsOf } from "./with-server.js";

/** The embedded model, with its SAEs, in process. */
const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const load = { precision: "f32", parallel: 4, queueLimit: 4, stallTimeoutMs: 60_000, threads: 1 } as const;
let engine: LocalEngine;
let app: Hono<AppEnv>;
beforeAll(async () => {
  engine = await LocalEngine.start({ model: join("models", "default"), cacheDir: folder, ...load });
  app = appOf(engine, { settings: { maxBodyBytes: 8 << 20, defaultMaxTokens: 3 } });
});
afterAll(async () => {
  await engine.close();
  rmSync(folder, { recursive: true });
});

const post = (path: string, body: object) =>
  app.request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const number = (min: number, max: number) =>
  fc.oneof(fc.double({ min, max, noNaN: true }), fc.constantFrom(min, max, Math.max(min, 5e-324)));
const whole = (min: number, max: number) => fc.oneof(fc.integer({ min, max }), fc.constantFrom(min, max));
const huge = fc.constantFrom(Number.MAX_SAFE_INTEGER, 2 ** 31, 2 ** 32, 2 ** 53 - 1);
const tokenId = whole(0, 4095);
const text = (maxLength: number) => fc.string({ unit: "binary", maxLength });
const window = whole(1, 256);
const sinks = fc.constantFrom(0, 10);
const sae = fc.constantFrom(1, 3, 5).map((layer) => `blocks.${layer}.hook_resid_post`);
const edited = { sae, feature: whole(0, 1023) };
const start = fc.constantFrom("kept", "pre", null);

/** Every field, at values from one end of what it may be to the other. */
const FIELDS = {
  temperature: number(0, 100),
  top_p: number(0, 1),
  top_k: fc.oneof(whole(-1, 5000), huge),
  min_p: number(0, 1),
  presence_penalty: number(-2, 2),
  frequency_penalty: number(-2, 2),
  repetition_penalty: number(0.01, 100),
  logit_bias: fc.dictionary(tokenId.map(String), number(-100, 100), { maxKeys: 200 }),
  seed: fc.oneof(fc.maxSafeInteger(), fc.constantFrom(2 ** 63, -(2 ** 63))),
  n: whole(1, 5),
  min_tokens: whole(0, 1),
  stop: fc.oneof(text(1024), fc.array(text(1024), { maxLength: 16 }), fc.constantFrom("", [""], "\ud800", " ")),
  stop_token_ids: fc.array(tokenId, { maxLength: 1024 }),
  allowed_token_ids: fc.array(tokenId, { minLength: 1, maxLength: 500 }),
  bad_words: fc.array(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }), { maxLength: 50 }),
  ignore_eos: fc.boolean(),
  include_stop_str_in_output: fc.boolean(),
  skip_special_tokens: fc.boolean(),
  return_token_ids: fc.boolean(),
  stream_options: fc.record({ include_usage: fc.boolean(), continuous_usage_stats: fc.boolean() }),
  lm_infinite: fc.oneof(
    fc.record({ window, sinks, mode: fc.constant("lambda") }, { requiredKeys: [] }),
    fc.record({ sinks, mode: fc.constant("full") }, { requiredKeys: ["mode"] }),
    window.chain((most) =>
      fc.record({
        window: fc.constant(most),
        sinks,
        retrieve: fc.record(
          { k: whole(1, most), from_layer: whole(0, 5), distance: whole(0, most) },
          { requiredKeys: [] },
        ),
      }),
    ),
  ),
  features: fc.record(
    {
      saes: fc.uniqueArray(sae, { minLength: 1 }),
      top: whole(0, 100_000),
      activation: fc.oneof(
        fc.constantFrom("native", "top-afa"),
        whole(1, 1024).map((k) => ({ top_k: k })),
      ),
      prompt: fc.boolean(),
    },
    { requiredKeys: [] },
  ),
  edits: fc.uniqueArray(
    fc.oneof(
      fc.record({ ...edited, op: fc.constant("add"), value: number(-1e6, 1e6) }),
      fc.record({ ...edited, op: fc.constantFrom("scale", "clamp"), value: number(-1e6, 1e6), from: start }),
      fc.record({ ...edited, op: fc.constant("ablate"), from: start }),
    ),
    { maxLength: 5, selector: ({ feature }) => feature },
  ),
  edits_from: fc.constantFrom("prompt", "generation"),
};
const COMPLETION = {
  ...FIELDS,
  prompt: fc.oneof(
    text(300),
    fc.array(tokenId, { minLength: 1, maxLength: 300 }),
    fc.array(text(30), { minLength: 1, maxLength: 9 }),
    fc.constantFrom("", null, "a\ud800b"),
  ),
  max_tokens: whole(1, 3),
  echo: fc.boolean(),
  logprobs: whole(0, 20),
  stream: fc.boolean(),
};
const CHAT = {
  ...FIELDS,
  messages: fc.array(
    fc.record({
      role: fc.constantFrom("system", "developer", "user", "assistant"),
      content: fc.oneof(
        text(100),
        fc.array(
          text(30).map((part) => ({ type: "text", text: part })),
          { maxLength: 3 },
        ),
      ),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  max_tokens: whole(1, 3),
  max_completion_tokens: whole(1, 3),
  logprobs: fc.constant(true),
  prompt_logprobs: whole(0, 20),
  top_logprobs: whole(0, 20),
};
const FEATURES = {
  input: COMPLETION.prompt,
  saes: fc.uniqueArray(sae, { minLength: 1 }),
  top: whole(0, 100_000),
  activation: fc.constantFrom("native", "top-afa", { top_k: 1 }, { top_k: 1024 }),
  edits: FIELDS.edits,
  lm_infinite: FIELDS.lm_infinite,
  stream: fc.boolean(),
};
/** What no field, or hardly one, takes. */
const wrong = fc.oneof(
  fc.constantFrom(-1, -2, 1.5, 1e300, -1e300, 5e-324, 1e-300, "1", true, [], {}, [null], [[]], { a: 1 }),
  fc.constantFrom("x".repeat(1 << 20), Array(5000).fill("x"), Array(5000).fill(1), [1e300], { 5: 1e300 }),
  fc.jsonValue(),
);

/** A request that is right, or has a field that is not. */
const requests = (fields: Record<string, fc.Arbitrary<unknown>>, required: string[]) =>
  fc
    .tuple(
      fc.record(fields, { requiredKeys: required }),
      fc.option(fc.tuple(fc.constantFrom(...Object.keys(fields)), wrong), { freq: 2 }),
    )
    .map(([right, change]) => (change === null ? right : { ...right, [change[0]]: change[1] }));

/** 200, or 400 that names one of the fields; a stream that has begun says it in its last event. */
async function isAnswered(response: Response, fields: readonly string[]): Promise<void> {
  const body = await response.text();
  const streamed = response.headers.get("content-type")?.startsWith("text/event-stream") ?? false;
  const last = streamed ? (eventsOf(body).at(-1) ?? "") : body;
  if (last === "[DONE]") return;
  const error = WireError.safeParse(JSON.parse(last)).data?.error;
  if (!streamed && response.status === 200 && error === undefined) return;
  expect(error?.type).toBe("invalid_request_error");
  if (!streamed) expect(response.status).toBe(400);
  if (error?.code !== "no_token_left") expect(fields).toContain(error?.param?.split(/[.[]/)[0]);
}

test.each([
  ["/v1/completions", COMPLETION, ["max_tokens"]],
  ["/v1/features", FEATURES, ["input"]],
  ["/v1/chat/completions", { ...CHAT, stream: fc.constant(false) }, ["messages", "logprobs"]],
] as const)("whatever %s is asked, it answers, or names what is wrong, and goes on", async (path, fields, required) => {
  const plain = async () => (await completionOf(await complete(app, { prompt: "Once", temperature: 0 }))).choices;
  const before = await plain();
  const property = fc.asyncProperty(requests(fields, [...required]), async (body) => {
    await isAnswered(await post(path, body), Object.keys(fields));
  });
  await fc.assert(property, { seed: 15, numRuns: 30 });
  expect(await plain()).toEqual(before);
  expect(engine.load()).toEqual({ running: 0, waiting: 0 });
  expect(engine.failure).toBe(null);
});
