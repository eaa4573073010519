import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import type { Engine } from "../../runtime/contract/generation.js";
import { endEvent, type Script, scriptedEngine, wordEvent } from "./scripted-engine.js";
import { until, untilStill, withServer } from "./with-server.js";

/** Speaks and listens on a bare socket, where nothing is polite for us. */
async function open(url: string): Promise<{ socket: Socket; heard: () => string }> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  const chunks: Buffer[] = [];
  socket.on("data", (chunk) => chunks.push(chunk));
  socket.on("error", () => {});
  await once(socket, "connect");
  return { socket, heard: () => Buffer.concat(chunks).toString() };
}

function post(body: object): string {
  const json = JSON.stringify(body);
  const head = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"];
  return [...head, `Content-Length: ${Buffer.byteLength(json)}`, "", json].join("\r\n");
}

/** Never says anything, until it is stopped. */
const mute: Script = async function* (sequence, index, signal) {
  if (!signal.aborted) await once(signal, "abort");
  yield endEvent(sequence, index, 0);
};

describe("a client that hangs up", () => {
  test.each([
    ["before the first token", mute],
    ["between tokens", undefined],
  ])("stops its generation %s, streamed or not", async (_, script) => {
    for (const stream of [true, false]) {
      const engine = scriptedEngine(script ? { script } : {});
      await withServer(engine, async ({ url }) => {
        const { socket } = await open(url);
        socket.write(post({ prompt: "a", max_tokens: null, stream, n: 2 }));
        await until(() => engine.requests.length === 1 && (script !== undefined || engine.taken > 10));
        expect(engine.stopped).toBe(0);
        socket.destroy();
        await until(() => engine.stopped === 2);
        expect(engine.load().running).toBe(0);
      });
    }
  });

  test("before its stream begins has its line in the log, and nothing is generated", async () => {
    const lines: string[] = [];
    const logger = pino({ level: "info" }, { write: (line) => lines.push(line) });
    const engine = scriptedEngine();
    let tokenise = () => {};
    const slow: Engine = {
      ...engine,
      async encode(text, at) {
        await new Promise<void>((resolve) => {
          tokenise = resolve;
        });
        return engine.encode(text, at);
      },
    };
    await withServer(
      slow,
      async ({ url }) => {
        const { socket } = await open(url);
        const idle = tokenise;
        socket.write(post({ prompt: "a", max_tokens: null, stream: true }));
        await until(() => tokenise !== idle);
        socket.destroy();
        await new Promise((resolve) => setTimeout(resolve, 50)); // the server hears of it
        tokenise();
        await until(() => lines.length === 1);
        expect(JSON.parse(lines[0] ?? "")).toMatchObject({ clientGone: true, completionTokens: 0 });
        await until(() => engine.stopped === 1);
        expect(engine.taken).toBe(0);
      },
      { logger },
    );
  });

  test("while it sends the body disturbs nobody", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const { socket } = await open(url);
      socket.write(post({ prompt: "a" }).slice(0, -5));
      await new Promise((resolve) => setImmediate(resolve));
      socket.destroy();
      expect((await fetch(`${url}/health`)).status).toBe(200);
      expect(engine.requests).toEqual([]);
    });
  });
});

describe("a stream", () => {
  test("has its headers before its first token, and is kept alive by comments", async () => {
    const engine = scriptedEngine({ script: mute });
    const settings = { pingMs: 5 };
    await withServer(
      engine,
      async ({ url }) => {
        const { socket, heard } = await open(url);
        socket.write(post({ prompt: "a", stream: true }));
        await until(() => heard().split(": ping\n\n").length > 3);
        expect(heard()).toMatch(/^HTTP\/1.1 200 OK/);
        expect(heard().toLowerCase()).toContain("content-type: text/event-stream");
        expect(heard()).not.toContain("data:");
        socket.destroy();
      },
      { settings },
    );
  });

  test("has the headers that every answer has", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const headers = { "Content-Type": "application/json", "X-Request-Id": "mine-1", Origin: "http://localhost:3000" };
      const body = JSON.stringify({ prompt: "a", max_tokens: 2, stream: true });
      const response = await fetch(`${url}/v1/completions`, { method: "POST", headers, body });
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "x-request-id": "mine-1",
        "access-control-allow-origin": "http://localhost:3000",
        "cache-control": "no-cache",
      });
      expect(await response.text()).toMatch(/data: \[DONE\]\n\n$/);
    });
  });

  test("that nobody reads makes its engine wait, and loses nothing", async () => {
    const total = 1000;
    const big = "x".repeat(30_000);
    const engine = scriptedEngine({
      async *script(sequence, index) {
        for (let seq = 0; seq < total; seq++) yield wordEvent(sequence, index, seq, `${seq}:${big}`);
        yield endEvent(sequence, index, total);
      },
    });
    await withServer(engine, async ({ url }) => {
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ prompt: "a", max_tokens: null, stream: true }),
      });
      await until(() => engine.taken > 0);
      await untilStill(() => engine.taken);
      expect(engine.taken).toBeLessThan(total / 2);

      const seen = [...(await response.text()).matchAll(/"text":"(\d+):/g)].map((match) => Number(match[1]));
      expect(seen).toEqual(Array.from({ length: total }, (_, seq) => seq));
    });
  });

  test("of a long prompt's log-probabilities that nobody reads makes its engine wait, and loses nothing", async () => {
    const [length, piece] = [120_000, 200];
    const engine = scriptedEngine({
      async *script(sequence, index) {
        for (let start = 0; start < length; start += piece) {
          const logprobs = Array.from({ length: piece }, (_, i) => ({ logprob: -1 - start - i, top: [] }));
          yield { type: "prompt", index, start, logprobs };
        }
        yield endEvent(sequence, index, 0);
      },
    });
    await withServer(
      engine,
      async ({ url }) => {
        const prompt = Array.from({ length }, (_, i) => i % 1000);
        const response = await fetch(`${url}/v1/completions`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ prompt, echo: true, logprobs: 0, max_tokens: 0, stream: true }),
        });
        await until(() => engine.taken > 0);
        await untilStill(() => engine.taken);
        expect(engine.taken).toBeLessThan(length / piece);

        const seen = [...(await response.text()).matchAll(/"token_logprobs":\[([^\]]*)\]/g)];
        const logprobs = seen.flatMap(([, list]) => (list ?? "").split(",").map(Number));
        expect(logprobs).toEqual(Array.from({ length }, (_, i) => Math.max(-1 - i, -9999)));
      },
      { settings: { maxBodyBytes: 1 << 22 } },
    );
  });
});

describe("a body over the limit", () => {
  const settings = { maxBodyBytes: 1000 };

  test("sent in chunks without a length is refused at the limit, not at its end", async () => {
    const engine = scriptedEngine();
    await withServer(
      engine,
      async ({ url }) => {
        const { socket, heard } = await open(url);
        const head = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"];
        socket.write([...head, "Transfer-Encoding: chunked", "", ""].join("\r\n"));
        for (let i = 0; i < 3; i++) socket.write(`190\r\n${" ".repeat(400)}\r\n`);
        await until(() => heard().includes("body_too_large"));
        expect(heard()).toMatch(/^HTTP\/1.1 413 /);
        socket.destroy();
      },
      { settings },
    );
  });

  test("announced by its length is refused before it is sent", async () => {
    await withServer(
      scriptedEngine(),
      async ({ url }) => {
        const { socket, heard } = await open(url);
        const head = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"];
        socket.write([...head, "Content-Length: 1001", "", ""].join("\r\n"));
        await until(() => heard().includes("body_too_large"));
        socket.destroy();
      },
      { settings },
    );
  });

  test("reaches a client that sends all of it first", async () => {
    await withServer(
      scriptedEngine(),
      async ({ url }) => {
        const body = JSON.stringify({ prompt: "a".repeat(5_000_000) });
        const headers = { "Content-Type": "application/json" };
        const response = await fetch(`${url}/v1/completions`, { method: "POST", headers, body });
        expect(response.status).toBe(413);
      },
      { settings },
    );
  });
});

test("a Host that is no host is refused in OpenAI's shape, before the app", async () => {
  await withServer(scriptedEngine(), async ({ url }) => {
    const { socket, heard } = await open(url);
    socket.write("GET /health HTTP/1.1\r\nHost: a b/c\r\n\r\n");
    await until(() => heard().includes('"code":"bad_request"'));
    expect(heard()).toMatch(/^HTTP\/1.1 400 /);
    socket.destroy();
  });
});
