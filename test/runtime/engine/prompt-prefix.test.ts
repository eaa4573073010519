import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, onTestFinished, vi } from "vitest";
import type { Precision } from "../../../models/weights/block-format.js";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { eventCredit } from "../../../runtime/engine/event-credit.js";
import { EngineLoop } from "../../../runtime/engine/loop.js";
import type { Runner } from "../../../runtime/graphs/runner.js";
import { AttachedSaes } from "../../../runtime/saes/attached-saes.js";
import { goldenFolder } from "../../golden-tensors.js";
import { codedRunner, type KvBits } from "../graphs/coded-runner.js";
import { type Asked, idsOf, ofKind, sequenceRequest } from "./requests.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const ROOMY = 1 << 26;
/** Tokens of a text that every model of the tests knows; texts of one kind begin alike. */
const text = (kind: number, from: number, until: number): number[] =>
  Array.from({ length: until - from }, (_, i) => 3 + (((from + i) ** 2 * 31 + (from + i) * (17 + kind)) % 120));

interface Served {
  readonly window: number;
  readonly sinks: number;
  readonly prefixBytes?: number;
  readonly parallel?: number;
}

/** An engine without its thread, and how many prompt tokens its graphs have read. */
class Client implements Disposable {
  readonly loop: EngineLoop;
  readonly #events = new Map<number, GenerationEvent[]>();
  readonly #unread: [number, number][] = [];
  /** Requests as their events came. */
  readonly order: number[] = [];
  #requests = 0;
  #read = 0;

  constructor(
    readonly runner: Runner,
    { prefixBytes = ROOMY, parallel = 8, ...geometry }: Served,
    saes = new AttachedSaes([]),
  ) {
    const options = { parallel, parking: 8, stallTimeoutMs: 60_000, fullLength: 4000, prefixBytes, saes };
    this.loop = new EngineLoop(runner, { ...geometry, ...options, eosTokenIds: [], tokens: null }, (outbox) => {
      for (const { request, events } of outbox) {
        this.#events.get(request)?.push(...events);
        this.order.push(request);
        for (const event of events) this.#unread.push([request, eventCredit(event)]);
      }
    });
  }

  submit(...asked: readonly Asked[]): number {
    const request = this.#requests++;
    this.#events.set(request, []);
    this.loop.submit(request, asked.map(sequenceRequest));
    return request;
  }

  /** Makes steps until all texts have ended. */
  run(): void {
    const one = vi.spyOn(this.runner, "prefill");
    const several = vi.spyOn(this.runner, "prefillTogether");
    while (this.loop.step())
      for (const [request, credit] of this.#unread.splice(0)) this.loop.acknowledge(request, credit);
    for (const [, , ids] of one.mock.calls) this.#read += ids.length;
    for (const [, chunks] of several.mock.calls) for (const { ids } of chunks) this.#read += ids.length;
    one.mockRestore();
    several.mockRestore();
  }

  of(request: number): readonly GenerationEvent[] {
    return this.#events.get(request) ?? [];
  }

  /** A request alone: its events, the prompt tokens read for it, and what it says was not read. */
  ask(...asked: readonly Asked[]) {
    const before = this.#read;
    const request = this.submit(...asked);
    this.run();
    const events = this.of(request);
    return { events: told(events), read: this.#read - before, cached: cachedOf(events) };
  }

  [Symbol.dispose](): void {
    this.loop[Symbol.dispose]();
  }
}

const cachedOf = (events: readonly GenerationEvent[], index = 0): number | undefined =>
  ofKind(events, "end", index)[0]?.cachedTokens;
/** What a text is, whatever it was begun with. */
const told = (events: readonly GenerationEvent[]): GenerationEvent[] =>
  events.map((event) => (event.type === "end" ? { ...event, cachedTokens: 0 } : event));

async function open(name: string, window: number, precision: Precision = "f32", bits: KvBits = null): Promise<Runner> {
  const source = { path: goldenFolder(name), precision, cacheRoot };
  return (await codedRunner(source, bits, { window, threads: 1 })).runner;
}

/** The same in an engine that keeps nothing. */
function anew(runner: Runner, served: Served, asked: Asked) {
  using client = new Client(runner, { ...served, prefixBytes: 0 });
  return client.ask(asked);
}

const seeded = { ...sequenceRequest({}).sampling, temperature: 1, seed: 5 };

describe.each<[string, Served, Precision, 32 | 8 | 4]>([
  ["lm-infinite", { window: 32, sinks: 4 }, "f32", 32],
  ["lm-infinite", { window: 160, sinks: 70 }, "q8-block", 32],
  ["lm-infinite", { window: 160, sinks: 10 }, "int8", 32],
  ["lm-infinite", { window: 45, sinks: 0 }, "q4", 32],
  // A chunk as long as the window, of which a row keeps one token fewer.
  ["lm-infinite", { window: 64, sinks: 0 }, "f32", 8],
  ["lm-infinite", { window: 65, sinks: 0 }, "f32", 8],
  ["lm-infinite", { window: 160, sinks: 10 }, "int8", 8],
  ["architectures/mistral", { window: 100, sinks: 4 }, "f32", 4],
  ["lm-infinite-alibi", { window: 96, sinks: 4 }, "f32", 32],
  ["architectures/gemma3_text", { window: 100, sinks: 4 }, "f32", 32],
  ["architectures/mistral", { window: 100, sinks: 4 }, "f32", 32],
  // Smaller than the window that all layers were trained with.
  ["architectures/mistral", { window: 7, sinks: 4 }, "f32", 32],
  ["architectures/phi3_longrope", { window: 128, sinks: 10 }, "f32", 32],
])("%s, %j, in %s, keys and values of %s bits", (name, served, precision, bits) => {
  it("texts and log-probabilities are, to the last bit, those of a prompt that is read anew", async () => {
    using runner = await open(name, served.window, precision, bits === 32 ? null : bits);
    using client = new Client(runner, served);
    client.ask({ prompt: text(0, 0, 400) });
    let cached = 0;
    const prompts: readonly (readonly [number, number, number])[] = [
      [1, 70, 75],
      [2, 200, 230],
      [3, 399, 420],
      [4, 130, 131],
      [5, 64, 65],
      [6, 66, 66],
      [7, 330, 600],
      [8, 128, 129],
    ];
    for (const [i, [kind, shared, length]] of prompts.entries()) {
      const prompt = [...text(0, 0, shared), ...text(kind, shared, length)];
      const sampling = i % 2 === 0 ? seeded : sequenceRequest({}).sampling;
      const asked = { prompt, sampling, maxTokens: 16, logprobs: 3 };
      const got = client.ask(asked);
      const want = anew(runner, served, asked);
      expect(got.events).toEqual(want.events);
      expect(got.read + (got.cached ?? 0)).toBe(prompt.length - 1);
      expect(want).toMatchObject({ read: prompt.length - 1, cached: 0 });
      cached += got.cached ?? 0;
    }
    expect(cached).toBeGreaterThan(800);
  });
});

describe("what is read of a prompt", () => {
  const served = { window: 96, sinks: 4 };
  const chat = (prompt: readonly number[], more: Asked = {}): Asked => ({ prompt, maxTokens: 40, ...more });

  it("of a chat's turns only what is new, in blocks: the answer of before, which was decoded, and the new message", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    let prompt = text(0, 0, 300);
    for (let turn = 0; turn < 5; turn++) {
      const before = prompt.length - 40 - 30;
      const { events, read, cached } = client.ask(chat(prompt));
      expect(events).toEqual(anew(runner, served, chat(prompt)).events);
      if (turn > 0) {
        expect(cached).toBeGreaterThan(before - 1 - 64);
        expect(cached).toBeLessThanOrEqual(before - 1);
        expect(read).toBe(prompt.length - 1 - (cached ?? 0));
      }
      prompt = [...prompt, ...idsOf(events), ...text(turn + 1, 0, 30)];
    }
  });

  it("is the same among neighbours that come at once, some of them alike", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    client.ask(chat(text(0, 0, 250)));
    const asked = Array.from({ length: 12 }, (_, i): Asked => {
      const prompt = [...text(0, 0, 20 * i), ...text(i % 3, 20 * i, 20 * i + 15)];
      return chat(prompt, { logprobs: 2, ...(i % 2 === 0 && { sampling: { ...seeded, seed: i } }) });
    });
    const requests = asked.map((each) => client.submit(each));
    client.run();
    for (const [i, request] of requests.entries()) {
      const events = client.of(request);
      expect(told(events)).toEqual(anew(runner, served, asked[i] ?? {}).events);
      // Those that come to their turn late begin like the first, too.
      expect(cachedOf(events)).toBeGreaterThanOrEqual(Math.min(192, Math.floor((20 * i) / 64) * 64));
    }
  });

  it("is nothing but the last token where all before it is known", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    client.ask(chat(text(0, 0, 129)));
    expect(client.ask(chat(text(0, 0, 129)))).toMatchObject({ read: 0, cached: 128 });
  });

  it("is read once for all choices of a request, whose first says what was known", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    client.ask(chat(text(0, 0, 150)));
    const prompt = new Int32Array(text(0, 0, 200));
    const request = client.submit(chat([]), { prompt, maxTokens: 3 }, { prompt, maxTokens: 3, sampling: seeded });
    client.run();
    const events = client.of(request);
    expect([cachedOf(events, 1), cachedOf(events, 2)]).toEqual([128, 128]);
  });

  it("all of which is known keeps no choice waiting for another", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    client.ask(chat(text(0, 0, 129)));
    const prompt = new Int32Array(text(0, 0, 129));
    const request = client.submit({ prompt, maxTokens: 6 }, { prompt, maxTokens: 6, sampling: seeded });
    client.run();
    const events = client.of(request);
    expect([cachedOf(events), cachedOf(events, 1)]).toEqual([128, 128]);
    const secondBegins = events.findIndex(({ type, index }) => type === "token" && index === 1);
    expect(secondBegins).toBeLessThan(events.findIndex(({ type, index }) => type === "end" && index === 0));
  });

  it("is known to texts that keep all keys, from each other", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    const full = chat(text(0, 0, 300), { lambda: { mode: "full" }, logprobs: 2 });
    client.ask(chat(text(0, 0, 300)));
    expect(client.ask(full)).toMatchObject({ cached: 0 });
    const again = client.ask(full);
    expect(again.cached).toBe(256);
    expect(again.events).toEqual(anew(runner, served, full).events);
  });

  it("is all where window, starting tokens, salt or the prompt's edits are others", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    const prompt = text(0, 0, 150);
    const kinds: Asked[] = [
      {},
      { lambda: { window: 80 } },
      { lambda: { sinks: 0 } },
      { cacheSalt: "a" },
      { cacheSalt: "b" },
    ];
    for (const kind of kinds) expect(client.ask(chat(prompt, kind)).cached).toBe(0);
    for (const kind of kinds) expect(client.ask(chat(prompt, kind)).cached).toBe(128);
  });

  it("is all where each token is asked for, or an archive keeps all keys; and that leaves nothing", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    const anew: Asked[] = [{ promptLogprobs: 0 }, { promptLogprobs: 1, maxTokens: 0 }, { lambda: { retrieve: {} } }];
    const prompt = text(0, 0, 150);
    for (const kind of anew) expect(client.ask(chat(prompt, kind))).toMatchObject({ read: 149, cached: 0 });
    expect(client.loop.counts.prefixBytes).toBe(0);
    client.ask(chat(prompt));
    for (const kind of anew) expect(client.ask(chat(prompt, kind))).toMatchObject({ read: 149, cached: 0 });
  });

  it("stays what it is when its row is parked in the middle", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    onTestFinished(() => void vi.useRealTimers());
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, { ...served, parallel: 1 });
    const asked = chat(text(0, 0, 700), { logprobs: 2 });
    const parked = client.submit(asked);
    // In the middle of a block, and of the time that is its own.
    for (let steps = 0; steps < 3; steps++) client.loop.step();
    vi.advanceTimersByTime(10_000);
    const other = client.submit(chat(text(1, 0, 100)));
    client.run();
    expect(client.order.indexOf(other)).toBeLessThan(client.order.indexOf(parked));
    expect(told(client.of(parked))).toEqual(anew(runner, served, asked).events);
    const again = client.ask(asked);
    expect(again.cached).toBe(640);
    expect(again.events).toEqual(told(client.of(parked)));
  });

  it("stays what it is when its reader goes away in the middle", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, served);
    const left = client.submit(chat(text(0, 0, 2000)));
    while (client.loop.counts.prefixBytes === 0) client.loop.step();
    client.loop.cancel(left);
    const asked = chat(text(0, 0, 500), { logprobs: 2 });
    const got = client.ask(asked);
    expect(got.cached).toBeGreaterThan(0);
    expect(got.events).toEqual(anew(runner, served, asked).events);
  });
});

describe("within its bytes", () => {
  const served = { window: 96, sinks: 4 };
  /** Layers, keys and values, key-value heads, headDim, f32; and the unrotated starting tokens of the first. */
  const BLOCK = 64 * 3 * 2 * 2 * 16 * 4;
  const SINKS = 4 * 3 * 2 * 16 * 4;

  it("a store holds what was used last, and texts are right whatever is left", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, { ...served, prefixBytes: 6 * BLOCK + 2 * SINKS });
    const asked = (kind: number): Asked => ({ prompt: text(kind, 0, 230), maxTokens: 10, logprobs: 2 });
    expect([0, 1, 0, 1].map((kind) => client.ask(asked(kind)).cached)).toEqual([0, 0, 192, 192]);
    expect(client.loop.counts.prefixBytes).toBe(6 * BLOCK + 2 * SINKS);
    // The third takes the place of the first, which was used longest ago.
    expect(client.ask(asked(2)).cached).toBe(0);
    expect(client.loop.counts.prefixBytes).toBeLessThanOrEqual(6 * BLOCK + 2 * SINKS);
    expect(client.ask(asked(1)).cached).toBe(192);
    for (const kind of [0, 1, 2, 3, 2, 1, 0])
      expect(client.ask(asked(kind)).events).toEqual(anew(runner, served, asked(kind)).events);
  });

  it("a text longer than the store leaves its beginning and its end", async () => {
    using runner = await open("lm-infinite", served.window);
    using client = new Client(runner, { ...served, prefixBytes: 5 * BLOCK + SINKS });
    const prompt = text(0, 0, 1300);
    client.ask({ prompt });
    expect(client.loop.counts.prefixBytes).toBe(5 * BLOCK + SINKS);
    const longer = { prompt: [...prompt, ...text(1, 0, 50)], logprobs: 2 };
    const got = client.ask(longer);
    expect(got.cached).toBe(1280);
    expect(got.events).toEqual(anew(runner, served, longer).events);
    const other = { prompt: [...text(0, 0, 150), ...text(2, 0, 50)], logprobs: 2 };
    const begun = client.ask(other);
    expect(begun.cached).toBe(128);
    expect(begun.events).toEqual(anew(runner, served, other).events);
  });

  it("nothing is kept where a block does not fit, or none may be", async () => {
    using runner = await open("lm-infinite", served.window);
    for (const prefixBytes of [BLOCK - 1, 0]) {
      using client = new Client(runner, { ...served, prefixBytes });
      for (const _ of [1, 2]) expect(client.ask({ prompt: text(0, 0, 300) }).cached).toBe(0);
      expect(client.loop.counts.prefixBytes).toBe(0);
    }
  });
});
