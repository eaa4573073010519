import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { eventCredit } from "../../../runtime/engine/event-credit.js";
import { EngineLoop, type EngineLoopOptions } from "../../../runtime/engine/loop.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { OrtError } from "../../../runtime/ort/library.js";
import { AttachedSaes } from "../../../runtime/saes/attached-saes.js";
import { goldenFolder, goldenIds } from "../../golden-tensors.js";
import { type Asked, idsOf, ofKind, promptLogprobs, sequenceRequest, textOf } from "./requests.js";

/** The engine's loop without its thread: every step is made by the test, so that what happens in between is known. */
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
const runner = new Runner(model, { window: 32, threads: 1 });
const golden = goldenIds("lm-infinite");
const prompt = (length: number): number[] => Array.from({ length }, (_, i) => golden[i % golden.length] ?? 0);

interface Sent {
  readonly request: number;
  readonly event: GenerationEvent;
}

class Client {
  readonly sent: Sent[] = [];
  readonly loop: EngineLoop;

  constructor(options: Partial<EngineLoopOptions> = {}) {
    const defaults = {
      window: 32,
      sinks: 4,
      parallel: 4,
      parking: 4,
      stallTimeoutMs: 1000,
      eosTokenIds: [],
      tokens: null,
      fullLength: 1000,
      saes: new AttachedSaes([]),
    };
    this.loop = new EngineLoop(runner, { ...defaults, ...options }, (outbox) => {
      for (const { request, events } of outbox) for (const event of events) this.sent.push({ request, event });
    });
  }

  submit(request: number, ...sequences: Asked[]): void {
    this.loop.submit(request, sequences.map(sequenceRequest));
  }

  /** Makes steps until there is nothing to do, or `done`. Readers of `acknowledged` requests read everything at once. */
  run(acknowledged: readonly number[] = [], done: () => boolean = () => false): void {
    for (let read = this.sent.length; !done() && this.loop.step(); read = this.sent.length) {
      for (const { request, event } of this.sent.slice(read)) {
        if (acknowledged.includes(request)) this.loop.acknowledge(request, eventCredit(event));
      }
    }
  }

  of(request: number): GenerationEvent[] {
    return this.sent.filter((each) => each.request === request).map(({ event }) => event);
  }
}

const clients: Client[] = [];
const client = (options?: Partial<EngineLoopOptions>): Client => {
  const made = new Client(options);
  clients.push(made);
  return made;
};
/** Time passes where a test says so: all steps take alike, however busy the machine is. */
beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => {
  vi.useRealTimers();
  for (const { loop } of clients.splice(0)) loop[Symbol.dispose]();
});
afterAll(() => {
  runner[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

describe("sequences share the engine", () => {
  it("a short text is written while a long prompt is still read", () => {
    const loop = client();
    loop.submit(0, { prompt: prompt(2000) });
    loop.submit(1, { prompt: prompt(3), maxTokens: 20 });
    loop.run();
    const firstOfLong = loop.sent.findIndex(({ request }) => request === 0);
    const lastOfShort = loop.sent.findLastIndex(({ request }) => request === 1);
    expect(idsOf(loop.of(1))).toHaveLength(20);
    expect(idsOf(loop.of(0))).toHaveLength(8);
    expect(lastOfShort).toBeLessThan(firstOfLong);
  });

  it("a prompt is read while others go on writing", () => {
    const loop = client();
    loop.submit(0, { prompt: prompt(2), maxTokens: null });
    loop.submit(1, { prompt: prompt(200), maxTokens: 1 });
    loop.run([0], () => ofKind(loop.of(1), "end").length === 1);
    expect(idsOf(loop.of(1))).toHaveLength(1);
  });

  it("each gets what it gets alone, whatever goes on beside it and ends before it", () => {
    const asked = [
      { prompt: prompt(70), maxTokens: 30 },
      { prompt: prompt(5), maxTokens: 12 },
      { prompt: prompt(33), maxTokens: 3 },
      { prompt: prompt(9), maxTokens: 40, lambda: { sinks: 0 } },
      { prompt: prompt(50), maxTokens: 9, lambda: { window: 16 } },
      { prompt: prompt(64), maxTokens: 25, lambda: { mode: "full" } },
    ] as const;
    const alone = asked.map((each) => {
      const loop = client();
      loop.submit(0, each);
      loop.run();
      return idsOf(loop.of(0));
    });
    const loop = client();
    loop.submit(0, ...asked);
    loop.submit(1, ...asked.toReversed());
    loop.run([0, 1]);
    expect(asked.map((_, i) => idsOf(loop.of(0), i))).toEqual(alone);
    expect(asked.map((_, i) => idsOf(loop.of(1), i))).toEqual(alone.toReversed());
    expect(alone.map((ids) => ids.length)).toEqual(asked.map(({ maxTokens }) => maxTokens));
  });
});

describe("what runs together", () => {
  /** The runs of a graph: rows of a decode step, tokens of a chunk. */
  const watched = () => {
    const decoded = vi.spyOn(runner, "decode");
    const prefilled = vi.spyOn(runner, "prefill");
    onTestFinished(() => {
      decoded.mockRestore();
      prefilled.mockRestore();
    });
    return {
      rows: () => decoded.mock.calls.map(([, , tokens]) => tokens.filter((token) => token !== null).length),
      promptTokens: () => prefilled.mock.calls.reduce((sum, [, , ids]) => sum + ids.length, 0),
    };
  };

  it("texts of any window are written in one run a step, those without starting tokens in another", () => {
    const loop = client({ parallel: 16 });
    const windows = [{}, { window: 16 }, { window: 5 }, { sinks: 0 }, { sinks: 0, window: 8 }];
    loop.submit(0, ...windows.map((lambda) => ({ prompt: prompt(1), maxTokens: 20, lambda })));
    const { rows } = watched();
    loop.run([0]);
    expect(new Set(rows())).toEqual(new Set([3, 2]));
    expect(rows()).toHaveLength(40);
  });

  it("those that are edited, retrieve or keep all keys run each by itself", () => {
    const loop = client({ parallel: 16 });
    const lambdas = [{ retrieve: { k: 2 } }, { mode: "full" }, { mode: "full" }, {}] as const;
    loop.submit(0, ...lambdas.map((lambda) => ({ prompt: prompt(3), maxTokens: 10, lambda })));
    const { rows } = watched();
    loop.run([0]);
    expect(rows()).toEqual(Array(40).fill(1));
  });

  it("copies of a text share the reading of its prompt, and what is said of it goes to each", () => {
    const ask = { prompt: Int32Array.from(prompt(75)), maxTokens: 6, promptLogprobs: 1 };
    const alone = client();
    alone.submit(0, ask);
    alone.run([0]);
    const loop = client({ parallel: 3, parking: 0 });
    const { promptTokens } = watched();
    // Two of them wait for a place until others have ended.
    loop.submit(0, ...Array(5).fill(ask));
    loop.run([0]);
    expect(promptTokens()).toBe(74);
    for (let index = 0; index < 5; index++) {
      expect(idsOf(loop.of(0), index)).toEqual(idsOf(alone.of(0)));
      expect(promptLogprobs(loop.of(0), index)).toEqual(promptLogprobs(alone.of(0)));
    }
  });

  it("short prompts are read in one run, each as it is alone", () => {
    const asked = [10, 7, 9, 8].map((length) => ({ prompt: prompt(30 + length).slice(30), maxTokens: 5, logprobs: 1 }));
    const alone = asked.map((each) => {
      const loop = client();
      loop.submit(0, each);
      loop.run([0]);
      return loop.of(0);
    });
    const loop = client();
    // What a token of a prompt takes is known from the first.
    loop.submit(9, { prompt: prompt(20), maxTokens: 1 });
    vi.useRealTimers();
    loop.run([9]);
    const together = vi.spyOn(runner, "prefillTogether");
    onTestFinished(() => together.mockRestore());
    for (const [id, each] of asked.entries()) loop.submit(id, each);
    loop.run([0, 1, 2, 3]);
    expect(together.mock.calls.map(([, chunks]) => chunks.map(({ ids }) => ids.length))).toEqual([[9, 6, 8, 7]]);
    expect(asked.map((_, id) => loop.of(id))).toEqual(alone);
  });

  it("where the copy that reads fails, the next one reads", () => {
    const ask = { prompt: Int32Array.from(prompt(75)), maxTokens: 6 };
    const loop = client();
    const { sampling } = sequenceRequest({});
    const broken = {
      ...sampling,
      get seed(): number {
        throw new TypeError("no such seed");
      },
    };
    loop.submit(0, { ...ask, sampling: broken }, ask, ask);
    const { promptTokens } = watched();
    loop.run([0]);
    expect(promptTokens()).toBe(74);
    expect(ofKind(loop.of(0), "error")).toHaveLength(1);
    for (const index of [1, 2]) expect(idsOf(loop.of(0), index)).toHaveLength(6);
  });
});

it("more texts than places take turns, and each is what it is alone", () => {
  const asked = Array.from({ length: 5 }, (_, i) => ({ prompt: prompt(20 + 17 * i), maxTokens: 150 - i }));
  const alone = asked.map((each) => {
    const loop = client();
    loop.submit(0, each);
    loop.run([0]);
    return idsOf(loop.of(0));
  });
  const loop = client({ parallel: 2, parking: 4 });
  for (const [id, each] of asked.entries()) loop.submit(id, each);
  const firstOf = (request: number) => loop.sent.findIndex((each) => each.request === request);
  loop.run([0, 1, 2, 3, 4], () => {
    vi.advanceTimersByTime(100);
    return false;
  });
  expect(asked.map((_, id) => idsOf(loop.of(id)))).toEqual(alone);
  // Nobody waited for another's end.
  const ended = loop.sent.findIndex(({ event }) => event.type === "end");
  expect(Math.max(...asked.map((_, id) => firstOf(id)))).toBeLessThan(ended);
});

it("a copy whose reader fails is told of its prompt once", () => {
  const loop = client();
  const ask = { prompt: Int32Array.from(prompt(75)), maxTokens: 2, promptLogprobs: 0 };
  const prefill = vi.spyOn(runner, "prefill");
  onTestFinished(() => prefill.mockRestore());
  loop.submit(0, ask, ask);
  loop.loop.step();
  prefill.mockImplementationOnce(() => {
    throw new OrtError(6, "failed to allocate");
  });
  loop.run([0]);
  expect(ofKind(loop.of(0), "error", 0)).toMatchObject([{ error: { kind: "out_of_memory" } }]);
  const starts = ofKind(loop.of(0), "prompt", 1).map(({ start, logprobs }) => [start, logprobs.length]);
  expect(starts.reduce((next, [start = 0, length = 0]) => (start === next ? start + length : Number.NaN), 0)).toBe(75);
  expect(idsOf(loop.of(0), 1)).toHaveLength(2);
});

it("a row for which no token is left ends alone", () => {
  const loop = client();
  const { sampling } = sequenceRequest({});
  const cornered = { ...sampling, allowedTokenIds: [5], badWords: [[5, 5]] };
  const ask = { prompt: prompt(9), maxTokens: 30 };
  loop.submit(0, ask, { ...ask, sampling: cornered }, ask);
  loop.run([0]);
  const [before, failed, behind] = [0, 1, 2].map((index) => idsOf(loop.of(0), index));
  expect(failed).toEqual([5]);
  expect(ofKind(loop.of(0), "error", 1)).toMatchObject([{ error: { kind: "no_token_left" } }]);
  const alone = client();
  alone.submit(0, ask);
  alone.run([0]);
  expect([before, behind]).toEqual([idsOf(alone.of(0)), idsOf(alone.of(0))]);
});

describe("a reader that does not read", () => {
  it("pauses its own sequences, a bounded number of events ahead, and nobody else's", () => {
    const loop = client({ parallel: 2 });
    loop.submit(0, { maxTokens: null }, { maxTokens: null }, { maxTokens: null });
    loop.submit(1, { maxTokens: 500 });
    loop.submit(2, { maxTokens: 10 });
    loop.run([1, 2]);
    expect(idsOf(loop.of(1))).toHaveLength(500);
    expect(idsOf(loop.of(2))).toHaveLength(10);
    expect(loop.of(0).length).toBeGreaterThanOrEqual(128);
    expect(loop.of(0).length).toBeLessThan(140);
  });

  it("pauses the evaluation of its prompt, the sooner the more log-probabilities it asked for", () => {
    const ahead = [0, 20].map((top) => {
      const loop = client();
      loop.submit(0, { prompt: prompt(5000), maxTokens: 0, promptLogprobs: top });
      loop.run();
      const tokens = promptLogprobs(loop.of(0)).length;
      loop.loop.acknowledge(
        0,
        loop.of(0).reduce((sum, event) => sum + eventCredit(event), 0),
      );
      loop.run([0]);
      expect(promptLogprobs(loop.of(0))).toHaveLength(4999);
      return tokens;
    });
    expect(ahead[0]).toBeLessThan(128 * 16 + 32);
    expect(ahead[1]).toBeLessThan(128 + 32);
  });

  it("goes on where it was once it reads", () => {
    const loop = client();
    loop.submit(0, { maxTokens: 300 });
    loop.run();
    const before = loop.of(0).length;
    expect(before).toBeLessThan(140);
    loop.loop.acknowledge(0, before);
    loop.run([0]);
    expect(ofKind(loop.of(0), "token").map(({ seq }) => seq)).toEqual(Array.from({ length: 300 }, (_, i) => i));
  });

  it("is given up after the stall timeout, and only then; its place goes to the next", () => {
    const loop = client({ parallel: 1, parking: 1, stallTimeoutMs: 1000 });
    for (const request of [0, 1]) loop.submit(request, { maxTokens: null });
    loop.submit(2, { maxTokens: 5 });
    loop.run();
    loop.loop.dropStalled();
    expect(loop.sent.filter(({ event }) => event.type === "error")).toEqual([]);
    expect(loop.of(2)).toEqual([]);
    vi.advanceTimersByTime(1001);
    loop.loop.dropStalled();
    for (const request of [0, 1]) {
      expect(loop.of(request).at(-1)).toMatchObject({ type: "error", index: 0, error: { kind: "stalled" } });
    }
    loop.run();
    expect(idsOf(loop.of(2))).toHaveLength(5);
  });

  it("is not given up while it reads, however slowly", () => {
    const loop = client({ stallTimeoutMs: 1000 });
    loop.submit(0, { maxTokens: null });
    const failed = () => ofKind(loop.of(0), "error").length;
    for (let i = 0; i < 5; i++) {
      loop.run();
      vi.advanceTimersByTime(900);
      loop.loop.dropStalled();
      expect(failed()).toBe(0);
      loop.loop.acknowledge(0, 16);
    }
    loop.run();
    vi.advanceTimersByTime(1100);
    loop.loop.dropStalled();
    expect(failed()).toBe(1);
  });
});

describe("a request that is cancelled", () => {
  it.each<[string, number]>([
    ["before its first turn", 0],
    ["in the middle of its prompt", 3],
    ["in the middle of its text", 100],
    ["while it waits for its reader", 400],
  ])("%s sends nothing more, and its memory is free", (_, steps) => {
    const loop = client({ parallel: 2 });
    loop.submit(
      0,
      ...Array.from({ length: 4 }, () => ({ prompt: prompt(150), maxTokens: null, lambda: { mode: "full" } as const })),
    );
    for (let i = 0; i < steps; i++) loop.loop.step();
    expect(loop.loop.cacheBytes > 0).toBe(steps > 0);
    loop.loop.cancel(0);
    expect(loop.loop.cacheBytes).toBe(0);
    const sent = loop.sent.length;
    expect(loop.loop.step()).toBe(false);
    loop.loop.acknowledge(0, 5);
    loop.loop.cancel(0);
    expect(loop.sent).toHaveLength(sent);
  });

  it("frees what its texts archived, however far they are", () => {
    for (const steps of [1, 3, 12]) {
      const loop = client();
      const lambda = { retrieve: { k: 2 } };
      loop.submit(0, ...[60, 90].map((length) => ({ prompt: prompt(length), maxTokens: 30, lambda })));
      for (let i = 0; i < steps; i++) loop.loop.step();
      const kept = loop.loop.cacheBytes;
      expect(kept).toBeGreaterThan(90 * 700); // bytes that the archive of the shorter text takes at least
      loop.loop.cancel(0);
      expect(loop.loop.cacheBytes).toBe(0);
    }
  });

  it("leaves the batch in the next step, in which the one that waited for its place begins", () => {
    const loop = client({ parallel: 3 });
    for (const request of [0, 1, 2, 3]) loop.submit(request, { prompt: prompt(5 + request), maxTokens: null });
    loop.run([], () => idsOf(loop.of(2)).length === 4);
    expect(loop.of(3)).toEqual([]);
    const decode = vi.spyOn(runner, "decode");
    onTestFinished(() => decode.mockRestore());
    const decoded = (): number => {
      decode.mockClear();
      loop.loop.step();
      return decode.mock.calls.flatMap(([, , tokens]) => tokens.filter((token) => token !== null)).length;
    };
    expect(decoded()).toBe(3);
    const gone = idsOf(loop.of(1)).length;
    loop.loop.cancel(1);
    expect(decoded()).toBe(3);
    expect(idsOf(loop.of(3))).toHaveLength(1);
    loop.loop.cancel(0);
    expect(decoded()).toBe(2);
    expect(idsOf(loop.of(1))).toHaveLength(gone);
  });

  it("has no further chunk of its prompt read, and choices that waited for it neither", () => {
    const loop = client({ parallel: 2 });
    const long = Int32Array.from(prompt(1500));
    loop.submit(0, ...Array.from({ length: 3 }, () => ({ prompt: long, maxTokens: 5 })));
    loop.submit(1, { prompt: prompt(8), maxTokens: 5 });
    for (let i = 0; i < 3; i++) loop.loop.step();
    const prefill = vi.spyOn(runner, "prefill");
    onTestFinished(() => prefill.mockRestore());
    loop.loop.step();
    expect(prefill.mock.calls.length).toBeGreaterThan(0);
    loop.loop.cancel(0);
    prefill.mockClear();
    loop.run([1]);
    expect(prefill).not.toHaveBeenCalled();
    expect(loop.of(0)).toEqual([]);
    expect(idsOf(loop.of(1))).toHaveLength(5);
    expect(loop.loop.cacheBytes).toBe(0);
  });

  it("leaves the others what they were", () => {
    const loop = client();
    loop.submit(0, { prompt: prompt(40), maxTokens: 20 });
    loop.run();
    loop.submit(1, { prompt: prompt(10), maxTokens: null });
    loop.submit(2, { prompt: prompt(40), maxTokens: 20 });
    loop.submit(3, { prompt: prompt(25), maxTokens: null });
    loop.run([], () => idsOf(loop.of(2)).length === 5);
    loop.loop.cancel(1);
    loop.loop.cancel(3);
    loop.run();
    expect(idsOf(loop.of(2))).toEqual(idsOf(loop.of(0)));
  });
});

describe("what fails is that request alone", () => {
  it("one that cannot be set up gets an error, and the others live", () => {
    const loop = client();
    const { sampling } = sequenceRequest({});
    // A seed that is no number gets past no check of ours; here it stands for whatever a later version forgets to check.
    const broken = {
      ...sampling,
      get seed(): number {
        throw new TypeError("no such seed");
      },
    };
    loop.submit(0, { maxTokens: 3 }, { sampling: broken });
    loop.submit(1, { maxTokens: 3 });
    loop.run();
    expect(loop.of(0).filter(({ type }) => type === "error")).toMatchObject([
      { index: 1, error: { kind: "internal" } },
    ]);
    for (const request of [0, 1]) expect(idsOf(loop.of(request))).toHaveLength(3);
  });

  it("one for which there is no memory", () => {
    const loop = client({ window: 2 ** 44 });
    loop.submit(0, { lambda: { window: 32, sinks: 2 ** 44 } });
    loop.run();
    expect(loop.of(0)).toMatchObject([{ type: "error", error: { kind: "out_of_memory" } }]);
  });
});

it("a text in mode full ends where its memory does", () => {
  const loop = client({ fullLength: 50 });
  loop.submit(0, { prompt: prompt(20), maxTokens: null, lambda: { mode: "full" } });
  loop.run();
  expect(loop.of(0).at(-1)).toMatchObject({ type: "end", finishReason: "length", completionTokens: 30 });
});

describe("a prompt alone", () => {
  it("of one token, with and without log-probabilities", () => {
    const loop = client();
    const end = { type: "end", finishReason: "length", text: "", promptTokens: 1, completionTokens: 0 };
    loop.submit(0, { prompt: [5], maxTokens: 0 });
    loop.submit(1, { prompt: [5], maxTokens: 0, promptLogprobs: 3 });
    loop.submit(2, { prompt: [5], maxTokens: 2, promptLogprobs: 3 });
    loop.run();
    expect(loop.of(0)).toMatchObject([end]);
    expect(loop.of(1)).toMatchObject([{ type: "prompt", start: 0, logprobs: [null] }, end]);
    expect(loop.of(2).map(({ type }) => type)).toEqual(["prompt", "token", "token", "end"]);
  });

  it("is not even read where nothing is asked of it", () => {
    const loop = client();
    loop.submit(0, { prompt: prompt(5000), maxTokens: 0 });
    expect(loop.loop.step()).toBe(true);
    expect(loop.of(0)).toMatchObject([{ type: "end", promptTokens: 5000 }]);
    expect(textOf(loop.of(0))).toBe("");
  });
});
