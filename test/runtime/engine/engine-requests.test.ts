import { beforeAll, describe, expect, it, vi } from "vitest";
import { InvalidRequest, QueueFull } from "../../../runtime/contract/errors.js";
import type { LocalEngine } from "../../../runtime/engine/engine.js";
import { expectedTensors, goldenFolder, goldenIds } from "../../golden-tensors.js";
import { type Asked, idsOf, ofKind, sequenceRequest } from "./requests.js";
import { begin, expectClose, expectedLogprobs, read, run, smallEngines } from "./small-engine.js";

const { startEngine } = smallEngines();

const ids = goldenIds("lm-infinite");

describe("a request that is not read to its end", () => {
  let engine: LocalEngine;
  beforeAll(async () => {
    engine = await startEngine({ parallel: 1, queueLimit: 0 });
  });
  const usable = async () => {
    expect(engine.load()).toEqual({ running: 0, waiting: 0 });
    expect(idsOf(await run(engine, { maxTokens: 3 }))).toHaveLength(3);
  };

  it("is stopped by its signal: the loop ends, and there is room again", async () => {
    const abort = new AbortController();
    let read = 0;
    for await (const _ of engine.generate([sequenceRequest({ maxTokens: null })], abort.signal)) {
      expect(engine.load()).toEqual({ running: 1, waiting: 0 });
      if (++read === 5) abort.abort();
      expect(read).toBeLessThanOrEqual(5);
    }
    await usable();
  });

  it("or before it began", async () => {
    const events = engine.generate([sequenceRequest({ maxTokens: null })], AbortSignal.abort());
    expect(await read(events)).toEqual([]);
    await usable();
  });

  it("or in the middle of its prompt", async () => {
    const abort = new AbortController();
    const prompt = Array.from({ length: 300_000 }, (_, i) => ids[i % 400] ?? 0);
    const events = read(engine.generate([sequenceRequest({ prompt })], abort.signal));
    await new Promise((resolve) => setTimeout(resolve, 20));
    abort.abort();
    expect(await events).toEqual([]);
    await usable();
  });

  it("or by leaving the loop", async () => {
    for await (const _ of begin(engine, { maxTokens: null })) break;
    await usable();
  });

  it("and waiting sequences are stopped, too", async () => {
    const roomy = await startEngine({ parallel: 1, queueLimit: 2 });
    const abort = new AbortController();
    const running = begin(roomy, { maxTokens: null });
    const waiting = read(roomy.generate([sequenceRequest({}), sequenceRequest({})], abort.signal));
    expect(roomy.load()).toEqual({ running: 1, waiting: 2 });
    abort.abort();
    expect(await waiting).toEqual([]);
    expect(roomy.load()).toEqual({ running: 1, waiting: 0 });
    for await (const _ of running) break;
    expect(idsOf(await run(roomy, { maxTokens: 3 }))).toHaveLength(3);
  });
});

describe("many requests at once", () => {
  it("run and wait up to the limit; the next one is told to come back, and can once one has ended", async () => {
    const engine = await startEngine({ parallel: 1, queueLimit: 1 });
    const [first, second] = [begin(engine, { maxTokens: null }), run(engine, { maxTokens: 2 })];
    expect(() => begin(engine, {})).toThrow(QueueFull);
    for await (const _ of first) break;
    expect(idsOf(await second)).toHaveLength(2);
    expect(idsOf(await run(engine, {}, {}))).toHaveLength(8);
  });

  it("are taken with more sequences than run or wait, by thousands, and next to nothing waits for them in memory", async () => {
    const engine = await startEngine({ parallel: 2, queueLimit: 1 });
    const asked = { maxTokens: 1, stop: Array.from({ length: 16 }, (_, i) => `${i}`.repeat(500)), stopTokenIds: ids };
    const many = run(engine, ...Array<typeof asked>(2048).fill(asked));
    expect(engine.load()).toEqual({ running: 2, waiting: 2046 });
    expect(() => begin(engine, {})).toThrow(QueueFull);
    const ends = (await many).filter(({ type }) => type === "end");
    expect(ends.map(({ index }) => index).sort((a, b) => a - b)).toEqual(Array.from({ length: 2048 }, (_, i) => i));
    expect(idsOf(await run(engine, {}))).toHaveLength(8);
    const refusal = expect.objectContaining({ name: "InvalidRequest", param: "prompt" });
    expect(() => begin(engine, ...Array<object>(2049).fill({}))).toThrow(refusal);
    expect(() => begin(engine)).toThrow(refusal);
  });

  it("do not wait for a slow reader, who gets everything in the end", async () => {
    const engine = await startEngine({ parallel: 1, queueLimit: 4 });
    const slow = begin(engine, { maxTokens: 700 });
    for (let i = 0; i < 3; i++) expect(idsOf(await run(engine, { maxTokens: 200 }))).toHaveLength(200);
    const events = await read(slow);
    expect(ofKind(events, "token").map(({ seq }) => seq)).toEqual(Array.from({ length: 700 }, (_, i) => i));
  });

  it("nor for one who never reads: it is given up", async () => {
    const engine = await startEngine({ parallel: 1, queueLimit: 4, stallTimeoutMs: 100 });
    const stalled = [begin(engine, { maxTokens: null }), begin(engine, { maxTokens: null })];
    const waiting = run(engine, { maxTokens: 100 });
    expect(idsOf(await waiting)).toHaveLength(100);
    await vi.waitFor(() => expect(engine.load()).toEqual({ running: 0, waiting: 0 }), 20_000);
    for (const each of stalled) {
      const events = await read(each);
      expect(events.at(-1)).toMatchObject({ type: "error", error: { kind: "stalled" } });
      expect(events.length).toBeLessThan(200);
    }
  });
});

describe("a request that this model cannot run names its field", () => {
  let engine: LocalEngine;
  beforeAll(async () => {
    engine = await startEngine();
  });
  const { sampling } = sequenceRequest({});
  it.each<[string, Asked]>([
    ["prompt", { prompt: [] }],
    ["prompt", { prompt: [1, 256] }],
    ["prompt", { prompt: [-1] }],
    ["stop_token_ids", { stopTokenIds: [256] }],
    ["logit_bias", { sampling: { ...sampling, logitBias: [[256, 1]] } }],
    ["logit_bias", { sampling: { ...sampling, logitBias: [[1, Number.NaN]] } }],
    ["temperature", { sampling: { ...sampling, temperature: Number.NaN } }],
    ["temperature", { sampling: { ...sampling, temperature: -1 } }],
    ["top_p", { sampling: { ...sampling, topP: 1.1 } }],
    ["top_k", { sampling: { ...sampling, topK: -1 } }],
    ["min_p", { sampling: { ...sampling, minP: Number.NaN } }],
    ["repetition_penalty", { sampling: { ...sampling, repetitionPenalty: 0 } }],
    ["repetition_penalty", { sampling: { ...sampling, repetitionPenalty: 5e-324 } }],
    ["temperature", { sampling: { ...sampling, temperature: 1e300 } }],
    ["frequency_penalty", { sampling: { ...sampling, frequencyPenalty: 1e300 } }],
    ["stop", { stop: Array(17).fill("a") }],
    ["stop", { stop: ["a".repeat(1025)] }],
    ["presence_penalty", { sampling: { ...sampling, presencePenalty: Number.POSITIVE_INFINITY } }],
    ["frequency_penalty", { sampling: { ...sampling, frequencyPenalty: Number.NaN } }],
    ["seed", { sampling: { ...sampling, seed: 0.5 } }],
    ["max_tokens", { maxTokens: -1 }],
    ["min_tokens", { minTokens: 0.5 }],
    ["logprobs", { logprobs: -1 }],
    ["lm_infinite.window", { lambda: { window: 33 } }],
    ["lm_infinite.window", { lambda: { window: 0 } }],
    ["lm_infinite.window", { lambda: { window: 3.5 } }],
    ["lm_infinite.window", { lambda: { window: 8, mode: "full" } }],
    ["lm_infinite.sinks", { lambda: { sinks: 3 } }],
    ["lm_infinite.retrieve", { lambda: { mode: "full", retrieve: {} } }],
    ["lm_infinite.retrieve.k", { lambda: { retrieve: { k: 0 } } }],
    ["lm_infinite.retrieve.k", { lambda: { retrieve: { k: 33 } } }],
    ["lm_infinite.retrieve.k", { lambda: { window: 8, retrieve: { k: 9 } } }],
    ["lm_infinite.retrieve.from_layer", { lambda: { retrieve: { fromLayer: 3 } } }],
    ["lm_infinite.retrieve.distance", { lambda: { retrieve: { distance: 33 } } }],
    ["lm_infinite.retrieve.distance", { lambda: { retrieve: { distance: Number.NaN } } }],
    ["max_tokens", { maxTokens: null, lambda: { retrieve: {} } }],
    ["max_tokens", { maxTokens: 0, lambda: { retrieve: {} } }],
    ["lm_infinite.retrieve", { maxTokens: 1e9, lambda: { retrieve: {} } }],
  ])("%s: %j", (param, asked) => {
    const refusal = expect.objectContaining({ name: "InvalidRequest", param });
    expect(() => begin(engine, {}, asked)).toThrow(refusal);
    expect(engine.load()).toEqual({ running: 0, waiting: 0 });
  });

  it("a text in mode full that this machine has no memory for", () => {
    const length = engine.fullLength;
    expect(length).toBeGreaterThan(ids.length);
    const prompt = new Proxy<number[]>([1], {
      get: (target, key) => (key === "length" ? length : Reflect.get(target, key)),
    });
    expect(() => begin(engine, { prompt, lambda: { mode: "full" } })).toThrow(InvalidRequest);
  });
});

describe("a request that retrieves", () => {
  const BYTES_OF_A_TOKEN = 3 * 2 * 16 * 4 * 2 + 4;
  const prompt = ids.slice(0, 100);

  it("gives the logits of the paper's own code, alone and beside others, and what it archived is free again", async () => {
    const engine = await startEngine({ archiveBytes: 450 * BYTES_OF_A_TOKEN });
    expect(engine.card.archiveTokens).toBe(450);
    const golden = expectedTensors("lm-infinite").get("retrieve_k5_from1_w32_g4_decode")?.values ?? new Float32Array();
    const [token = 0] = ids.slice(100);
    const asked = {
      prompt,
      maxTokens: 2,
      logprobs: 0,
      sampling: { ...sequenceRequest({}).sampling, logitBias: [[token, 100] as const] },
      lambda: { retrieve: { k: 5, fromLayer: 1, distance: 16 } },
    };
    const plain = { prompt, maxTokens: 4 };
    for (let round = 0; round < 3; round++) {
      const events = await run(engine, asked, plain, asked, asked);
      for (const index of [0, 2, 3]) {
        const [event] = ofKind(events, "token", index);
        const logits = golden.subarray(0, 256);
        expectClose([event?.logprobs?.logprob ?? 0], expectedLogprobs(logits, [0, token]));
      }
      expect(idsOf(events, 1)).toEqual(idsOf(await run(engine, plain)));
    }
  });

  it("goes on as one that does not, from a prompt of any length around the starting tokens", async () => {
    const engine = await startEngine();
    for (let length = 1; length <= engine.card.sinks + 2; length++) {
      for (const sinks of [engine.card.sinks, 0]) {
        const asked = { prompt: ids.slice(0, length), maxTokens: 2 };
        const events = await run(engine, { ...asked, lambda: { sinks, retrieve: {} } });
        expect(idsOf(events)).toEqual(idsOf(await run(engine, { ...asked, lambda: { sinks } })));
      }
    }
  });

  it("waits for nobody's memory: it is refused while other texts hold it, and taken when they are gone", async () => {
    const engine = await startEngine({ archiveBytes: 250 * BYTES_OF_A_TOKEN });
    const asked = { prompt, maxTokens: 100, lambda: { retrieve: {} } };
    const abort = new AbortController();
    const first = engine.generate([sequenceRequest(asked)], abort.signal);
    expect(() => begin(engine, asked)).toThrow(QueueFull);
    expect(() => begin(engine, asked, asked)).toThrow(expect.objectContaining({ param: "lm_infinite.retrieve" }));
    expect(idsOf(await run(engine, { ...asked, maxTokens: 50, lambda: {} }))).toHaveLength(50);
    abort.abort();
    await read(first);
    expect(idsOf(await run(engine, asked))).toHaveLength(100);
  });

  it("takes memory for as many of its texts as run at once", async () => {
    const engine = await startEngine({ archiveBytes: 450 * BYTES_OF_A_TOKEN, parallel: 2 });
    const asked = { prompt, maxTokens: 100, lambda: { retrieve: {} } };
    const events = await run(engine, ...Array<typeof asked>(5).fill(asked));
    for (let index = 0; index < 5; index++) expect(idsOf(events, index)).toEqual(idsOf(events));
    expect(() => begin(engine, asked, { ...asked, maxTokens: 151 })).toThrow(
      expect.objectContaining({ param: "lm_infinite.retrieve" }),
    );
  });

  it("is refused where positions cannot be moved", async () => {
    const engine = await startEngine({ model: goldenFolder("lm-infinite-alibi") });
    expect(engine.card.archiveTokens).toBeNull();
    const refusal = expect.objectContaining({ name: "InvalidRequest", param: "lm_infinite.retrieve" });
    expect(() => begin(engine, { lambda: { retrieve: {} } })).toThrow(refusal);
  });
});
