import { encode } from "@msgpack/msgpack";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { scriptedEngine } from "./scripted-engine.js";
import { openTraces, type RawTraces, SUBPROTOCOLS } from "./trace-wire.js";
import { until, withServer } from "./with-server.js";

const deep = (depth: number): unknown[] => (depth === 0 ? [] : [deep(depth - 1)]);
const bytes = (...values: number[]) => Uint8Array.from(values);
const repeat = (count: number, ...values: number[]) => Buffer.alloc(count * values.length, bytes(...values));

/** A socket that had to answer with errors goes on as if nothing had been. */
async function livesOn(traces: RawTraces): Promise<void> {
  traces.send({ type: "generate", id: "after", prompt: "a", max_tokens: 2 });
  await until(() => traces.of("after").length === 4);
  expect(traces.of("after").map(({ type }) => type)).toEqual(["start", "token", "token", "end"]);
  traces.socket.close();
}

/** [what, its bytes, id in the error frame, code, param] */
type Case = readonly [string, string | Uint8Array, string | null, string | null, string | null];

describe("a bad message in JSON is answered with an error, and the socket lives on", () => {
  const generate = '"type":"generate","id":"a","prompt":"b"';
  test.each<Case>([
    ["nothing", "", null, "bad_message", null],
    ["garbage", "{type: generate}", null, "bad_message", null],
    ["half of it", '{"type":"gener', null, "bad_message", null],
    ["no object", "[1,2]", null, null, null],
    ["null", "null", null, null, null],
    ["no type", '{"id":"a"}', "a", null, "type"],
    ["an unknown type", '{"type":"token","id":"a"}', "a", null, "type"],
    ["no id", '{"type":"generate","prompt":"b"}', null, null, "id"],
    ["an id that is no text", '{"type":"generate","id":5}', null, null, "id"],
    ["an empty id", '{"type":"cancel","id":""}', null, null, "id"],
    ["a long id", `{"type":"cancel","id":"${"a".repeat(129)}"}`, null, null, "id"],
    ["__proto__", `{${generate},"__proto__":{"model":"c"}}`, "a", "bad_message", null],
    ["binary", bytes(0x80), null, "bad_message", null],
    ["deep arrays", `{${generate},"stop":${JSON.stringify(deep(100))}}`, null, "bad_message", null],
    ["deep arrays that do not end", "[".repeat(500_000), null, "bad_message", null],
    ["a million objects", `{${generate},"stop":[${"{},".repeat(300_000)}{}]}`, null, "bad_message", null],
    ["a wrong field", `{${generate},"temperature":-1}`, "a", null, "temperature"],
    ["an unknown SAE", `{${generate},"features":{"saes":["early","nope"]}}`, "a", null, "features.saes[1]"],
    ["an unknown model", `{${generate},"model":"c"}`, "a", "model_not_found", "model"],
    [
      "a huge edit",
      `{${generate},"edits":[{"sae":"early","feature":1,"op":"add","value":1e30}]}`,
      "a",
      null,
      "edits[0].value",
    ],
  ])("%s", async (_, message, id, code, param) => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url, "lambdatap.v1.json");
      traces.socket.send(message);
      await traces.have("error");
      expect(traces.frames).toMatchObject([{ type: "error", id, index: null, error: { code, param } }]);
      await livesOn(traces);
    });
  });
});

describe("a bad message in MessagePack is answered with an error, and the socket lives on", () => {
  const pack = (message: unknown) => encode(message);
  test.each<Case>([
    ["nothing", bytes(), null, "bad_message", null],
    ["a byte of no meaning", bytes(0xc1), null, "bad_message", null],
    ["garbage", repeat(1000, 0x93, 0xde, 0xad, 0xbe, 0xef), null, "bad_message", null],
    ["half of it", pack({ type: "cancel", id: "abc" }).subarray(0, 15), null, "bad_message", null],
    ["two messages in one", Buffer.concat([pack({}), pack({})]), null, "bad_message", null],
    ["no map", pack(["generate"]), null, null, null],
    ["no type", pack({ id: "a" }), "a", null, "type"],
    ["an unknown type", pack({ type: "stop", id: "a" }), "a", null, "type"],
    ["no id", pack({ type: "generate" }), null, null, "id"],
    ["an id that is no text", pack({ type: "cancel", id: new Uint8Array(3) }), null, null, "id"],
    ["__proto__", pack(JSON.parse('{"id":"a","type":"generate","__proto__":{}}')), null, "bad_message", null],
    ["a key that is no text", bytes(0x81, 0x90, 0xc0), null, "bad_message", null],
    ["text", '{"type":"cancel","id":"a"}', null, "bad_message", null],
    ["deep arrays", repeat(500_000, 0x91), null, "bad_message", null],
    ["an array of 4 billion values", bytes(0xdd, 0xff, 0xff, 0xff, 0xff), null, "bad_message", null],
    ["a map of 4 billion entries", bytes(0xdf, 0xff, 0xff, 0xff, 0xff), null, "bad_message", null],
    ["arrays in arrays that claim 8 GB", repeat(30, 0xdd, 0x01, 0xe0, 0x00, 0x00), null, "bad_message", null],
    ["a text of 4 GB", bytes(0xdb, 0xff, 0xff, 0xff, 0xff), null, "bad_message", null],
    [
      "a million empty maps",
      Buffer.concat([bytes(0xdd, 0, 0x0f, 0, 0), repeat(0x0f0000, 0x80)]),
      null,
      "bad_message",
      null,
    ],
    ["an extension type", bytes(0x81, 0xa2, 0x69, 0x64, 0xd6, 0xff, 0, 0, 0, 0), null, "bad_message", null],
    ["a wrong field", pack({ type: "generate", id: "a", prompt: 5 }), "a", null, "prompt"],
  ])("%s", async (_, message, id, code, param) => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url, "lambdatap.v1.msgpack");
      traces.socket.send(message);
      await traces.have("error");
      expect(traces.frames).toMatchObject([{ type: "error", id, index: null, error: { code, param } }]);
      await livesOn(traces);
    });
  });

  test("and every kind of value that a message may hold is read", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url, "lambdatap.v1.msgpack");
      const numbers = [
        0,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        2 ** 32,
        -1,
        -32,
        -33,
        -128,
        -129,
        -32_769,
        -(2 ** 31) - 1,
        0.5,
      ];
      const texts = ["", "x".repeat(31), "x".repeat(32), "x".repeat(256), "x".repeat(65_536), "é"];
      const maps = [
        {},
        Object.fromEntries(numbers.map((n) => [`${n}`, n])),
        Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [i, i])),
      ];
      const more = {
        numbers,
        texts,
        maps,
        nothing: [null, true, false],
        bin: [0, 255, 256, 65_536].map((n) => new Uint8Array(n)),
      };
      const prompt = Array.from({ length: 70_000 }, (_, i) => i % 1000);
      traces.send({ type: "generate", id: "a", prompt, max_tokens: 1, more });
      await traces.have("end");
      expect(engine.requests[0]?.[0]?.prompt).toEqual(Int32Array.from(prompt));
      traces.socket.close();
    });
  });
});

describe.each(SUBPROTOCOLS)("over %s", (subprotocol) => {
  test("a message of 100 MB closes its socket with 1009, and no other", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const [traces, other] = [await openTraces(url, subprotocol), await openTraces(url, subprotocol)];
      other.send({ type: "generate", id: "other", prompt: "a", max_tokens: null });
      traces.socket.send(Buffer.alloc(100 << 20));
      expect(await traces.closed).toEqual([1009, ""]);
      const before = other.frames.length;
      await until(() => other.frames.length > before + 5);
      other.send({ type: "cancel", id: "other" });
      await livesOn(other);
    });
  });

  test("10,000 messages in a burst are all answered, and wait with their sender until it reads", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const Health = z.looseObject({ queued_bytes: z.number() });
      const queuedBytes = async () => Health.parse(await (await fetch(`${url}/health`)).json()).queued_bytes;
      const other = await openTraces(url, subprotocol);
      other.send({ type: "generate", id: "other", prompt: "a", max_tokens: null });
      const traces = await openTraces(url, subprotocol);
      traces.socket.pause();
      const model = "x".repeat(2000); // which the answer names: together more than the system's own buffers hold
      for (let i = 0; i < 10_000; i++) traces.send({ type: "generate", id: `${i}`, model });
      let most = 0;
      for (let round = 0; round < 20; round++) {
        const before = other.frames.length;
        await until(() => other.frames.length > before + 20);
        most = Math.max(most, await queuedBytes());
      }
      expect(most).toBeGreaterThan(1 << 20);
      expect(most).toBeLessThan(1.2 * (1 << 20));
      traces.socket.resume();
      await traces.have("error", 10_000);
      expect(traces.frames.map(({ id }) => id)).toEqual(Array.from({ length: 10_000 }, (_, i) => `${i}`));
      await livesOn(traces);
    });
  });
});

test("10,000 generations in a burst are taken as far as there is room", async () => {
  const engine = scriptedEngine({ room: 40 });
  await withServer(engine, async ({ url }) => {
    const traces = await openTraces(url);
    for (let i = 0; i < 10_000; i++) traces.send({ type: "generate", id: `${i}`, prompt: "a", max_tokens: 2 });
    await until(() => traces.frames.filter(({ type }) => type === "end" || type === "error").length === 10_000, 30_000);
    expect(engine.requests.length).toBeGreaterThanOrEqual(40);
    const codes = new Set(traces.frames.flatMap(({ error }) => (error ? [error.code] : [])));
    expect([...codes].filter((code) => code !== "queue_full" && code !== "too_many_generations")).toEqual([]);
    await livesOn(traces);
  });
});
