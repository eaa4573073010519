import { describe, expect, it } from "vitest";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { EventStream } from "../../../runtime/engine/event-stream.js";

const token = (seq: number): GenerationEvent => ({
  type: "token",
  index: 0,
  seq,
  pos: seq,
  tokenId: seq,
  text: "",
  logprobs: null,
  features: null,
});
const end = (index = 0): GenerationEvent => ({
  type: "end",
  index,
  finishReason: "stop",
  stopReason: null,
  text: "",
  promptTokens: 1,
  completionTokens: 1,
  cachedTokens: 0,
});
const failure: GenerationEvent = { type: "error", index: 0, error: { kind: "internal", message: "" } };

function open(sequences = 1): { stream: EventStream; acknowledged: number[]; closed: boolean[] } {
  const acknowledged: number[] = [];
  const closed: boolean[] = [];
  const stream = new EventStream({
    sequences,
    acknowledge: (count) => acknowledged.push(count),
    closed: (finished) => closed.push(finished),
  });
  return { stream, acknowledged, closed };
}

async function read(stream: EventStream): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe("a reader gets every event in order", () => {
  it("those that came before it read, and those it waited for", async () => {
    const { stream, closed } = open();
    stream.push([token(0), token(1)]);
    const events = read(stream);
    await new Promise(setImmediate);
    stream.push([token(2)]);
    await new Promise(setImmediate);
    expect(closed).toEqual([]);
    stream.push([token(3), end()]);
    expect(await events).toEqual([token(0), token(1), token(2), token(3), end()]);
    expect(closed).toEqual([true]);
  });

  it("until the last sequence has ended or failed", async () => {
    const { stream, closed } = open(3);
    stream.push([end(2)]);
    stream.push([failure]);
    expect(closed).toEqual([]);
    stream.push([end(1)]);
    expect(closed).toEqual([true]);
    expect(await read(stream)).toEqual([end(2), failure, end(1)]);
  });

  it("however many ask at once", async () => {
    const { stream } = open();
    const asked = [stream.next(), stream.next(), stream.next()];
    stream.push([token(0), end()]);
    expect((await Promise.all(asked)).map(({ value }) => value)).toEqual([token(0), end(), undefined]);
  });
});

it("what was read is acknowledged, so that the engine knows how far behind the reader is", async () => {
  const { stream, acknowledged } = open();
  stream.push(Array.from({ length: 100 }, (_, i) => token(i)));
  for (let i = 0; i < 100; i++) await stream.next();
  const sum = () => acknowledged.reduce((a, b) => a + b, 0);
  expect(sum()).toBeGreaterThan(100 - 32);
  expect(sum()).toBeLessThanOrEqual(100);
  stream.push([token(100), end()]);
  const before = sum();
  await read(stream);
  expect(sum()).toBe(before);
});

describe("a stream can be left", () => {
  it("by leaving the loop: nothing comes any more, and the engine is told once", async () => {
    const { stream, closed } = open();
    stream.push([token(0), token(1)]);
    for await (const _ of stream) break;
    expect(closed).toEqual([false]);
    stream.push([token(2), end()]);
    expect(await stream.next()).toEqual({ value: undefined, done: true });
    stream.abort(new Error("late"));
    await stream.return();
    expect(closed).toEqual([false]);
  });

  it("while it is waited for", async () => {
    const { stream, closed } = open();
    const events = read(stream);
    stream.abort(null);
    expect(await events).toEqual([]);
    expect(closed).toEqual([false]);
  });

  it("with an error, which every reader gets", async () => {
    const { stream } = open();
    stream.push([token(0)]);
    stream.abort(new Error("the engine has ended"));
    await expect(stream.next()).rejects.toThrow("the engine has ended");
    await expect(stream.next()).rejects.toThrow("the engine has ended");
  });

  it("after its end without a trace: what came can still be read", async () => {
    const { stream, closed } = open();
    stream.push([token(0), end()]);
    stream.abort(new Error("too late"));
    expect(await read(stream)).toEqual([token(0), end()]);
    expect(closed).toEqual([true]);
  });
});
