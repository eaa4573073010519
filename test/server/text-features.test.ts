import { once } from "node:events";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import type { GenerationEvent } from "../../runtime/contract/generation.js";
import { endEvent, readingsOf, scriptedEngine } from "./scripted-engine.js";
import { completionOf, errorOf, WireError, WireTextFeatures } from "./wire.js";
import { appOf, complete, eventsOf, until, untilStill, withServer } from "./with-server.js";

const app = appOf(scriptedEngine());
const edit = { sae: "early", feature: 1, op: "add", value: 1 };

const WireChunk = WireTextFeatures.extend({
  object: z.literal("features.chunk"),
  usage: WireTextFeatures.shape.usage.optional(),
});

const json = (body: unknown) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

async function readText(body: unknown, to = app): Promise<Response> {
  return to.request("/v1/features", json(body));
}

/** All chunks of a stream that ended well. */
async function chunksOf(response: Response) {
  const events = eventsOf(await response.text());
  expect(events.pop()).toBe("[DONE]");
  return events.map((event) => WireChunk.parse(JSON.parse(event)));
}

/** Reads on and on, but the second input fails at its second token. */
function failing() {
  return scriptedEngine({
    async *script({ features }, index): AsyncGenerator<GenerationEvent> {
      for (let start = 0; features !== null; start++) {
        if (index === 1 && start === 1) {
          yield { type: "error", index, error: { kind: "out_of_memory", message: "no room left" } };
        }
        yield { type: "features", index, start, readings: [readingsOf(features, 5, start)] };
      }
    },
  });
}

describe("POST /v1/features", () => {
  test("reads every token of a text, the BOS in front too, and generates nothing", async () => {
    const engine = scriptedEngine();
    const body = { input: "Once upon", saes: ["late"], top: 1, activation: { top_k: 2 } };
    const response = await readText(body, appOf(engine));
    expect(response.status).toBe(200);
    const answer = WireTextFeatures.parse(await response.json());
    expect(answer).toMatchObject({ model: "org/words", usage: { prompt_tokens: 3, total_tokens: 3 } });
    expect(answer.data).toHaveLength(1);
    expect(answer.data[0]?.tokens.map(({ pos, token_id, text }) => [pos, token_id, text])).toEqual([
      [0, 0, "<bos>"],
      [1, 2, "Once"],
      [2, 3, " upon"],
    ]);
    expect(answer.data[0]?.tokens[2]?.saes).toMatchObject([{ sae: "late", l0: 2, top: [[94, 0.85]] }]);
    expect(engine.requests[0]).toMatchObject([
      {
        prompt: Int32Array.of(0, 2, 3),
        maxTokens: 0,
        features: { saes: ["late"], top: 1, activation: { kind: "top-k", k: 2 }, prompt: true },
        edits: [],
        editsFrom: "prompt",
      },
    ]);
  });

  test("agrees with what a completion says of its prompt", async () => {
    const body = { prompt: "Once upon a time", max_tokens: 0, features: { prompt: true } };
    const [choice] = (await completionOf(await complete(app, body))).choices;
    const answer = WireTextFeatures.parse(await (await readText({ input: body.prompt })).json());
    expect(answer.data[0]?.tokens.map(({ text: _, ...token }) => token)).toEqual(choice?.features);
  });

  test("reads several inputs, texts and token ids, each by itself", async () => {
    const answer = WireTextFeatures.parse(await (await readText({ input: ["a b", [7, 8, 9], ""] })).json());
    expect(answer.data.map(({ index, tokens }) => [index, tokens.map(({ pos }) => pos)])).toEqual([
      [0, [0, 1, 2]],
      [1, [0, 1, 2]],
      [2, [0]],
    ]);
    expect(answer.data[1]?.tokens.map(({ token_id }) => token_id)).toEqual([7, 8, 9]);
    expect(answer.usage).toEqual({ prompt_tokens: 7, total_tokens: 7 });
  });

  test("passes edits and lm_infinite on", async () => {
    const engine = scriptedEngine();
    const body = { model: "words", input: [5], edits: [edit], lm_infinite: { window: 8, sinks: 0, mode: "full" } };
    const response = await readText(body, appOf(engine, { aliases: ["words"] }));
    expect(await response.json()).toMatchObject({ model: "words" });
    expect(engine.requests[0]?.[0]).toMatchObject({
      edits: [{ ...edit, from: "kept" }],
      editsFrom: "prompt",
      lambda: { window: 8, sinks: 0, mode: "full" },
    });
  });

  test.each<[string, object]>([
    ["input", {}],
    ["input", { input: null }],
    ["input", { input: 5 }],
    ["input", { input: [] }],
    ["input", { input: {} }],
    ["input[1]", { input: [1, "a"] }],
    ["input[1]", { input: [1, 1000] }],
    ["input[1]", { input: ["a", []] }],
    ["input[1][1]", { input: [[1], [2, -1]] }],
    ["input", { input: Array(2049).fill("a") }],
    ["saes", { input: "a", saes: [] }],
    ["saes[1]", { input: "a", saes: ["early", "nope"] }],
    ["top", { input: "a", top: -1 }],
    ["activation", { input: "a", activation: "relu" }],
    ["activation.top_k", { input: "a", activation: { top_k: 65 } }],
    ["edits[0].feature", { input: "a", edits: [{ ...edit, feature: 64 }] }],
    ["edits", { input: "a", edits: Array(257).fill(edit) }],
    ["edits[1]", { input: "a", edits: [edit, { ...edit, op: "ablate", value: null }] }],
    ["lm_infinite.windw", { input: "a", lm_infinite: { windw: 5 } }],
    ["lm_infinite.retrieve", { input: "a", lm_infinite: { retrieve: {} } }],
    ["features", { input: "a", features: {} }],
    ["stream", { input: "a", stream: "yes" }],
    ["model", { input: "a", model: 5 }],
    ["prompt", { prompt: "a", input: "a" }],
  ])("refuses a wrong %s with 400 that names it", async (param, body) => {
    const response = await readText(body);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ type: "invalid_request_error", param });
  });

  test("refuses other models, bodies and media types as completions do", async () => {
    expect((await errorOf(await readText({ input: "a", model: "nope" }))).code).toBe("model_not_found");
    expect((await readText([])).status).toBe(400);
    expect((await app.request("/v1/features", { method: "POST", body: "{}" })).status).toBe(415);
    expect((await errorOf(await readText({ input: "a".repeat(1 << 20) }))).code).toBe("body_too_large");
    const bare = appOf(scriptedEngine({ card: { saes: [] } }));
    expect((await errorOf(await readText({ input: "a" }, bare))).message).toContain("no SAE");
  });

  test("fails as a whole with the first input that fails", async () => {
    const engine = failing();
    const response = await readText({ input: ["a", "b", "c"] }, appOf(engine));
    expect(response.status).toBe(500);
    expect(await errorOf(response)).toMatchObject({ code: "out_of_memory", message: "no room left" });
    expect(engine.stopped).toBe(3);
  });
});

describe("POST /v1/features with stream", () => {
  const body = { input: ["Once upon a time", [7, 8, 9], ""], top: 3, activation: "top-afa" };

  test("adds up to what the same request returns whole", async () => {
    const engine = scriptedEngine();
    const whole = WireTextFeatures.parse(await (await readText(body, appOf(engine))).json());
    const response = await readText({ ...body, stream: true }, appOf(engine));
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const pieces = (await chunksOf(response)).flatMap(({ data }) => data);
    for (const { index, tokens } of whole.data) {
      expect(pieces.filter((piece) => piece.index === index).flatMap((piece) => piece.tokens)).toEqual(tokens);
    }
    expect(engine.requests[1]).toEqual(engine.requests[0]);
  });

  test("gives an input's tokens in order, as they are read, then the usage and nothing else", async () => {
    const chunks = await chunksOf(await readText({ ...body, stream: true }, appOf(scriptedEngine())));
    const last = chunks.pop();
    expect(chunks.map(({ data }) => data.map(({ index, tokens }) => [index, tokens.map(({ pos }) => pos)]))).toEqual([
      [[0, [0, 1, 2]]],
      [[1, [0, 1]]],
      [[2, [0]]],
      [[0, [3, 4]]],
      [[1, [2]]],
      [[2, []]],
    ]);
    expect(chunks.some((chunk) => "usage" in chunk)).toBe(false);
    expect(last).toEqual({
      object: "features.chunk",
      model: "org/words",
      data: [],
      usage: { prompt_tokens: 9, total_tokens: 9 },
    });
  });

  test("ends with an error event at the first input that fails, with no usage and no [DONE]", async () => {
    const engine = failing();
    const response = await readText({ input: ["a", "b", "c"], stream: true }, appOf(engine));
    expect(response.status).toBe(200);
    const events = eventsOf(await response.text());
    const error = WireError.parse(JSON.parse(events.pop() ?? "")).error;
    expect(error).toMatchObject({ code: "out_of_memory", message: "no room left" });
    expect(events.map((event) => WireChunk.parse(JSON.parse(event)).data[0]?.index)).toEqual([0, 1, 2, 0]);
    expect(engine.stopped).toBe(3);
  });

  test("of an engine that falls silent ends with an error event, not as if all were read", async () => {
    const engine = scriptedEngine({
      async *script({ features }, index): AsyncGenerator<GenerationEvent> {
        if (features !== null) yield { type: "features", index, start: 0, readings: [readingsOf(features, 5, 0)] };
      },
    });
    const events = eventsOf(await (await readText({ input: "a b", stream: true }, appOf(engine))).text());
    expect(WireError.parse(JSON.parse(events.pop() ?? "")).error.code).toBe("internal");
    expect((await readText({ input: "a b" }, appOf(engine))).status).toBe(500);
  });

  test("is refused with a status while there is one to refuse with", async () => {
    expect((await readText({ input: [1000], stream: true })).status).toBe(400);
    const full = appOf(scriptedEngine({ room: 0 }));
    expect((await readText({ input: "a", stream: true }, full)).status).toBe(429);
  });

  test("is kept alive by comments while a long text waits", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index, signal) {
        await once(signal, "abort");
        yield endEvent(sequence, index, 0);
      },
    });
    const response = await readText({ input: "a", stream: true }, appOf(engine, { settings: { pingMs: 5 } }));
    const reader = response.body?.getReader();
    const first = await reader?.read();
    expect(new TextDecoder().decode(first?.value)).toBe(": ping\n\n");
    await reader?.cancel();
    await until(() => engine.stopped === 1);
  });

  test("that nobody reads makes its engine wait, and loses nothing", async () => {
    const total = 1000;
    const wide = { indices: new Uint32Array(0), values: new Float32Array(0), sae: "x".repeat(30_000) };
    const engine = scriptedEngine({
      async *script(sequence, index): AsyncGenerator<GenerationEvent> {
        const reading = { l0: 0, z: 1, f: 1, epsLbo: 0, mse: 0, ...wide };
        for (let start = 0; start < total; start++) yield { type: "features", index, start, readings: [[reading]] };
        yield endEvent(sequence, index, 0);
      },
    });
    await withServer(engine, async ({ url }) => {
      const response = await fetch(`${url}/v1/features`, json({ input: Array(total).fill(5), stream: true }));
      await until(() => engine.taken > 0);
      await untilStill(() => engine.taken);
      expect(engine.taken).toBeLessThan(total / 2);

      const seen = [...(await response.text()).matchAll(/"pos":(\d+),/g)].map((match) => Number(match[1]));
      expect(seen).toEqual(Array.from({ length: total }, (_, pos) => pos));
    });
  });
});

test.each([true, false])(
  "a client who hangs up on POST /v1/features stops the reading (stream: %s)",
  async (stream) => {
    const engine = scriptedEngine({
      async *script(_, index, signal) {
        yield { type: "features", index, start: 0, readings: [] };
        if (!signal.aborted) await once(signal, "abort");
      },
    });
    await withServer(engine, async ({ url }) => {
      const client = new AbortController();
      const answer = fetch(`${url}/v1/features`, { ...json({ input: ["a", "b"], stream }), signal: client.signal });
      const gone = expect(answer.then((response) => response.text())).rejects.toThrow();
      await until(() => engine.taken === 2);
      expect(engine.stopped).toBe(0);
      client.abort();
      await gone;
      await until(() => engine.stopped === 2);
    });
  },
);

describe("an answer too long for one piece", () => {
  // 2 SAEs of 64 and 128 features, all of them asked for: 5 + 2 * 64 + 5 + 2 * 128 = 394 numbers a token.
  const all = { top: 1000, activation: "top-afa" };
  const tokens = (count: number) => Array(count).fill(5);

  test("is refused before anything is computed, and may be streamed", async () => {
    const engine = scriptedEngine();
    const response = await readText({ ...all, input: tokens(2539) }, appOf(engine));
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({
      param: "stream",
      message:
        "stream: 2539 tokens may give 1000366 numbers, more than the 1000000 that are sent in one answer; set stream: true",
    });
    expect(engine.requests).toEqual([]);
    const chunks = await chunksOf(await readText({ ...all, input: tokens(2539), stream: true }, appOf(engine)));
    expect(chunks.at(-1)?.usage?.prompt_tokens).toBe(2539);
  });

  test("is so by the sum of its inputs", async () => {
    expect((await errorOf(await readText({ ...all, input: [tokens(1269), tokens(1270)] }))).param).toBe("stream");
    expect((await readText({ ...all, input: tokens(2538) })).status).toBe(200);
  });

  test.each([
    { saes: ["late"] },
    { top: 8 },
    { activation: { top_k: 8 } },
    { activation: "native" }, // 6 of the second SAE, which is a top-k
  ])("is none with %j", async (fewer) => {
    expect((await readText({ ...all, ...fewer, input: tokens(2539) })).status).toBe(200);
  });
});
