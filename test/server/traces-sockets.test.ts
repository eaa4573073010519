import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { endEvent, scriptedEngine, wordEvent, words } from "./scripted-engine.js";
import { openTraces } from "./trace-wire.js";
import { serve, until, withServer } from "./with-server.js";

const generate = (id: string, body: object = {}) => ({
  type: "generate",
  id,
  prompt: "Once upon",
  max_tokens: 3,
  ...body,
});
const endless = (id: string, body: object = {}) => generate(id, { max_tokens: null, ...body });
const cancel = (id: string) => ({ type: "cancel", id });

describe("many generations on one socket", () => {
  test("go on side by side, and each has its own frames in order", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url, "lambdatap.v1.msgpack");
      traces.send(generate("a", { max_tokens: 50 }), generate("b", { max_tokens: 50, prompt: "Once" }));
      await traces.have("end", 2);
      for (const id of ["a", "b"]) {
        const seqs = traces.of(id).flatMap(({ seq }) => seq ?? []);
        expect(seqs).toEqual(Array.from({ length: 50 }, (_, i) => i));
      }
      const ids = traces.frames.filter(({ type }) => type === "token").map(({ id }) => id);
      expect(ids.indexOf("b")).toBeLessThan(ids.lastIndexOf("a"));
      expect(ids.indexOf("a")).toBeLessThan(ids.lastIndexOf("b"));
    });
  });

  test("are cancelled one by one; a cancel that comes too late is nothing", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url);
      traces.send(endless("a", { n: 2 }), endless("b"));
      await until(() => traces.of("a").length > 6 && traces.of("b").length > 3);
      traces.send(cancel("a"), cancel("a"), cancel("unheard-of"));
      await traces.have("end", 2);
      const tokens = traces.of("a").filter(({ type, index }) => type === "token" && index === 1).length;
      expect(traces.of("a").slice(-2)).toMatchObject([
        { type: "end", index: 0, finish_reason: "cancelled", stop_reason: null, text: "" },
        { type: "end", index: 1, finish_reason: "cancelled", usage: { prompt_tokens: 3, completion_tokens: tokens } },
      ]);
      expect(engine.stopped).toBe(2);
      const before = traces.of("b").length;
      await until(() => traces.of("b").length > before + 10);
      traces.send(cancel("b"));
      await traces.have("end", 3);
      expect(engine.load().running).toBe(0);
      expect(traces.frames.filter(({ type }) => type === "error")).toEqual([]);
    });
  });

  test("have an id each: one that runs is refused and goes on, one that has ended may be used again", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url);
      traces.send(endless("a"), generate("a"));
      await traces.have("error");
      expect(traces.frames.find(({ type }) => type === "error")).toMatchObject({
        id: "a",
        index: null,
        error: { code: "duplicate_id" },
      });
      const before = traces.frames.length;
      await until(() => traces.frames.length > before + 5);
      traces.send(cancel("a"));
      await traces.have("end");
      traces.send(generate("a"));
      await traces.have("end", 2);
      expect(traces.frames.at(-1)).toMatchObject({ finish_reason: "length" });
    });
  });

  test("are at most 64", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url);
      for (let i = 0; i < 65; i++) traces.send(endless(`${i}`));
      await traces.have("error");
      expect(traces.of("64")).toMatchObject([{ type: "error", index: null, error: { code: "too_many_generations" } }]);
      expect(engine.load().running).toBe(64);
      traces.send(cancel("0"));
      await traces.have("end");
      traces.send(generate("65"));
      await until(() => traces.of("65").some(({ type }) => type === "end"));
      traces.socket.close();
    });
  });
});

describe("a socket that closes", () => {
  test.each(["close", "terminate"] as const)(
    "with %s stops its generations, those that say nothing too",
    async (how) => {
      const engine = scriptedEngine({
        async *script(sequence, index, signal) {
          if (sequence.maxTokens === null) return yield* words(sequence, index);
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
        },
      });
      await withServer(engine, async ({ url }) => {
        const [traces, other] = [await openTraces(url), await openTraces(url)];
        traces.send(endless("a"), endless("b", { n: 2 }), generate("mute"));
        other.send(endless("a"));
        await until(() => traces.of("b").length > 5 && traces.of("mute").length === 1 && other.frames.length > 5);
        traces.socket[how]();
        await until(() => engine.stopped === 4);
        expect(engine.load().running).toBe(1);
        const before = other.frames.length;
        await until(() => other.frames.length > before + 5);
      });
      await until(() => engine.stopped === 5);
    },
  );

  test("that is dead is noticed: its generations stop", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index, signal) {
        yield wordEvent(sequence, index, 0);
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    });
    await withServer(
      engine,
      async ({ url }) => {
        const alive = await openTraces(url);
        const dead = await openTraces(url, "lambdatap.v1.json", { autoPong: false });
        alive.send(endless("a"));
        dead.send(endless("a"));
        expect(await dead.closed).toEqual([1006, ""]);
        await until(() => engine.stopped === 1);
        expect(alive.socket.readyState).toBe(alive.socket.OPEN);
      },
      { heartbeat: { pingMs: 20, silenceMs: 200 } },
    );
  });
});

describe("a server that drains", () => {
  test("lets what runs end, takes nothing new, and closes with 1001", async () => {
    let goOn = () => {};
    const engine = scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        await new Promise<void>((resolve) => {
          goOn = resolve;
        });
        yield wordEvent(sequence, index, 1);
        yield endEvent(sequence, index, 2);
      },
    });
    const server = await serve(engine);
    const [busy, idle] = [await openTraces(server.url), await openTraces(server.url)];
    busy.send(generate("a"));
    await busy.have("token");
    const drained = server.drain(60_000);
    expect(await idle.closed).toEqual([1001, "the server is shutting down"]);
    busy.send(generate("b"));
    await busy.have("error");
    expect(busy.of("b")).toMatchObject([{ index: null, error: { code: "shutting_down" } }]);
    goOn();
    expect(await busy.closed).toEqual([1001, "the server is shutting down"]);
    expect(busy.of("a").map(({ type }) => type)).toEqual(["start", "token", "token", "end"]);
    expect(await drained).toBe(0);
  });

  test("cuts off what still runs at its limit, and counts it", async () => {
    const engine = scriptedEngine();
    const server = await serve(engine);
    const traces = await openTraces(server.url);
    traces.send(endless("a"), endless("b"));
    await traces.have("token", 5);
    expect(await server.drain(50)).toBe(2);
    expect(await traces.closed).toEqual([1001, "the server is shutting down"]);
    await until(() => engine.stopped === 2);
  });
});

test("every generation leaves one line in the log, with its tokens and never its text", async () => {
  const lines: string[] = [];
  const logger = pino({ level: "info" }, { write: (line) => lines.push(line) });
  await withServer(
    scriptedEngine(),
    async ({ url }) => {
      const traces = await openTraces(url, "lambdatap.v1.json", { headers: { "X-Request-Id": "mine-1" } });
      traces.send(generate("secret", { prompt: "a secret" }));
      await traces.have("end");
      traces.send(generate("b", { prompt: ["a secret", 5] }), endless("c", { prompt: "a secret" }));
      await traces.have("token", 6);
      traces.send(cancel("c"), endless("d"));
      await until(() => traces.of("d").length > 3);
      traces.socket.terminate();
      await until(() => lines.length === 5);
    },
    { logger },
  );
  const logged = lines.map((line) => JSON.parse(line));
  const common = { msg: "generation", socket: "mine-1", path: "/v1/traces", ms: expect.any(Number) };
  const model = "org/words";
  const byEnd = (field: string) => logged.find((line) => field in line && line.msg === "generation");
  expect(logged[0]).toMatchObject({ ...common, model, promptTokens: 3, completionTokens: 3 });
  expect(byEnd("param")).toMatchObject({ ...common, error: "invalid_request_error", param: "prompt[1]" });
  expect(byEnd("cancelled")).toMatchObject({ ...common, model, promptTokens: 3 });
  expect(byEnd("clientGone")).toMatchObject({ ...common, model, promptTokens: 3 });
  const socket = { id: "mine-1", method: "GET", path: "/v1/traces", status: 101, code: 1006 };
  expect(logged.find(({ msg }) => msg === "request")).toMatchObject(socket);
  expect(lines.join("")).not.toContain("secret");
});

test("GET /health counts sockets and what waits for their readers", async () => {
  await withServer(scriptedEngine(), async ({ url }) => {
    const health = async () => (await fetch(`${url}/health`)).json();
    expect(await health()).toMatchObject({ status: "ok", running: 0, waiting: 0, sockets: 0, queued_bytes: 0 });
    const traces = await openTraces(url);
    expect(await health()).toMatchObject({ sockets: 1, queued_bytes: 0 });
    traces.socket.close();
    await traces.closed;
    expect(await health()).toMatchObject({ sockets: 0 });
  });
});
