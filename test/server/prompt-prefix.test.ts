import { describe, expect, test } from "vitest";
import * as z from "zod";
import { LocalEngine } from "../../runtime/engine/engine.js";
import { smallEngines } from "../runtime/engine/small-engine.js";
import { lambdatapInProcess } from "./lambdatap-in-process.js";
import { scriptedEngine } from "./scripted-engine.js";
import { openTraces } from "./trace-wire.js";
import { WireChat, WireCompletion } from "./wire.js";
import { appOf, complete, eventsOf, withServer } from "./with-server.js";

const engines = smallEngines();
const { startEngine } = engines;
const EMBEDDED = { model: "models/default", window: 128 } as const;
const STORY = "Once upon a time there was a king who had three daughters, and each of them had a garden. ".repeat(12);

describe("usage says what was not computed again", () => {
  const ask = { max_tokens: 5, temperature: 0, logprobs: 1 };

  test("of a completion, and of its stream", async () => {
    const app = appOf(await startEngine(EMBEDDED));
    const read = async (prompt: string, more = {}) => {
      const { usage, choices } = WireCompletion.parse(await (await complete(app, { prompt, ...ask, ...more })).json());
      return { cached: usage?.prompt_tokens_details?.cached_tokens, tokens: usage?.prompt_tokens ?? 0, choices };
    };
    const first = await read(STORY);
    const second = await read(STORY);
    expect(first.cached).toBe(0);
    expect(second.cached).toBe(Math.floor((first.tokens - 1) / 64) * 64);
    expect(second.choices).toEqual(first.choices);
    // Each prompt counts once, however many choices it has.
    expect(await read(STORY, { n: 3 })).toMatchObject({ cached: second.cached, tokens: first.tokens });

    const stream = { stream: true, stream_options: { include_usage: true } };
    const chunks = eventsOf(await (await complete(app, { prompt: STORY, ...ask, ...stream })).text());
    const last = WireCompletion.parse(JSON.parse(chunks.at(-2) ?? ""));
    expect(last.usage?.prompt_tokens_details).toEqual({ cached_tokens: second.cached });

    // Chunks before the end do not know yet.
    const counting = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
    const counted = eventsOf(await (await complete(app, { prompt: STORY, ...ask, ...counting })).text());
    const details = counted
      .slice(0, -1)
      .map((each) => WireCompletion.parse(JSON.parse(each)).usage?.prompt_tokens_details);
    expect([new Set(details.slice(0, -1)), details.at(-1)]).toEqual([
      new Set([null]),
      { cached_tokens: second.cached },
    ]);

    const health = z.object({ memory: z.object({ prefixes: z.int().positive() }) });
    health.parse(await (await app.request("/health")).json());
  });

  test("of a chat, whose turns begin with those before", async () => {
    const app = appOf(await startEngine(EMBEDDED));
    const turn = async (messages: readonly { role: string; content: string }[]) => {
      const body = JSON.stringify({ messages, max_tokens: 8, temperature: 0 });
      const headers = { "Content-Type": "application/json" };
      const response = await app.request("/v1/chat/completions", { method: "POST", headers, body });
      return WireChat.parse(await response.json());
    };
    const messages = [{ role: "user", content: STORY }];
    const first = await turn(messages);
    messages.push(
      { role: "assistant", content: first.choices[0]?.message.content ?? "" },
      { role: "user", content: "And then?" },
    );
    const second = await turn(messages);
    expect(first.usage.prompt_tokens_details).toEqual({ cached_tokens: 0 });
    expect(second.usage.prompt_tokens_details?.cached_tokens).toBeGreaterThan(first.usage.prompt_tokens - 66);
  });

  test("of a trace, whose readings of the answer are the same", async () => {
    await withServer(await startEngine(EMBEDDED), async ({ url }) => {
      const traces = await openTraces(url, "lambdatap.v1.json");
      const frames = [];
      for (const id of ["first", "second"]) {
        traces.send({ type: "generate", id, prompt: STORY, max_tokens: 5, temperature: 0 });
        await traces.have("end", frames.length + 1);
        frames.push({ tokens: traces.of(id).filter(({ type }) => type === "token"), end: traces.of(id).at(-1) });
      }
      const [first, second] = frames;
      expect(first?.end).toMatchObject({ usage: { prompt_tokens_details: { cached_tokens: 0 } } });
      expect(second?.end).toMatchObject({ usage: { prompt_tokens_details: { cached_tokens: expect.any(Number) } } });
      expect(second?.end).not.toMatchObject({ usage: { prompt_tokens_details: { cached_tokens: 0 } } });
      expect(second?.tokens.map((frame) => ({ ...frame, id: "" }))).toEqual(
        first?.tokens.map((frame) => ({ ...frame, id: "" })),
      );
      traces.socket.close();
    });
  });
});

test("edits of the prompt are part of what it is, edits of the answer are not", async () => {
  const app = appOf(await startEngine(EMBEDDED));
  const anew = appOf(await startEngine({ ...EMBEDDED, prefixBytes: 0 }));
  const [sae] = (await startEngine(EMBEDDED)).card.saes;
  const edits = (feature: number) => [{ sae: sae?.id, feature, op: "add", value: 3 }];
  const ablated = [{ sae: sae?.id, feature: 5, op: "ablate" }];
  const answer = async (where: typeof app, more: object) => {
    const response = await complete(where, { prompt: STORY, max_tokens: 12, temperature: 0, logprobs: 2, ...more });
    const { usage, choices } = WireCompletion.parse(await response.json());
    return { cached: usage?.prompt_tokens_details?.cached_tokens, choices };
  };
  const prompt = { edits_from: "prompt" };
  const cases = [
    [{}, false],
    [{ edits: edits(5), ...prompt }, false],
    [{ edits: edits(6), ...prompt }, false],
    [{ edits: edits(6) }, true],
    [{ edits: edits(5), ...prompt }, true],
    [{ edits: ablated, ...prompt }, false],
    [{ edits: ablated, ...prompt }, true],
  ] as const;
  for (const [more, isKnown] of cases) {
    const { cached, choices } = await answer(app, more);
    expect((cached ?? 0) > 0).toBe(isKnown);
    expect(choices).toEqual((await answer(anew, more)).choices);
  }
});

test.each(["", 7, ["a"], {}, true, "a".repeat(1025)])("cache_salt %.20j is refused by name", async (salt) => {
  for (const [path, text] of [
    ["/v1/completions", { prompt: "a" }],
    ["/v1/chat/completions", { messages: [{ role: "user", content: "a" }] }],
  ] as const) {
    const body = JSON.stringify({ ...text, cache_salt: salt });
    const headers = { "Content-Type": "application/json" };
    const response = await appOf(scriptedEngine()).request(path, { method: "POST", headers, body });
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param: "cache_salt" } }]);
  }
});

test("cache_salt separates those who have one from others", async () => {
  const app = appOf(await startEngine());
  const cached = async (salt?: string | null) => {
    const prompt = Array.from({ length: 100 }, (_, i) => i + 1);
    const response = await complete(app, { prompt, max_tokens: 1, cache_salt: salt });
    return WireCompletion.parse(await response.json()).usage?.prompt_tokens_details?.cached_tokens;
  };
  expect([await cached("a"), await cached("b"), await cached(), await cached("a"), await cached(null)]).toEqual([
    0, 0, 0, 64, 64,
  ]);
});

test("memory that is too little for any prompt is told", async () => {
  const notices: string[] = [];
  const options = { ...EMBEDDED, precision: "f32", prefixBytes: 1000, queueLimit: 1, stallTimeoutMs: 60_000 } as const;
  const { cacheDir } = engines;
  const engine = await LocalEngine.start({ ...options, cacheDir }, undefined, (line) => notices.push(line));
  await engine.close();
  expect(notices).toEqual([expect.stringMatching(/^Each prompt is read anew: 0\.0 MB are there /)]);
});

test.each<[string, number, RegExp, ...string[]]>([
  ["-1", 2, /^lambdatap serve: --prefix-mb '-1': .+>=0/],
  ["much", 2, /^lambdatap serve: --prefix-mb 'much': expected a number/],
  [
    "999999999",
    1,
    /^lambdatap serve: --prefix-mb 999999999 takes 1048576\.0 GB, and this machine has .+: choose less, or 0\./m,
  ],
  [
    "999999998",
    1,
    /^lambdatap serve: --prefix-mb 999999998 takes \d+\.\d GB for each of 2 models, and this machine/m,
    ...["--model", "a=models/default", "--model", "b=models/default"],
  ],
])("--prefix-mb %s ends the start with a sentence", async (megabytes, code, sentence, ...more) => {
  const { cacheDir } = engines;
  const ended = await lambdatapInProcess([
    "serve",
    "--port",
    "0",
    "--prefix-mb",
    megabytes,
    "--cache-dir",
    cacheDir,
    ...more,
  ]);
  expect([ended.code, ended.err]).toEqual([code, expect.stringMatching(sentence)]);
});
