import { once } from "node:events";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { SetupError } from "../../runtime/contract/errors.js";
import { listen } from "../../server/http.js";
import { endEvent, scriptedEngine, wordEvent } from "./scripted-engine.js";
import { appOf, until } from "./with-server.js";

const start = (engine = scriptedEngine()) => listen(appOf(engine).fetch, "127.0.0.1", 0);
const stream = (url: string) =>
  fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: "a", max_tokens: 3, stream: true }),
  });

test("a port in use is a sentence", async () => {
  const server = await start();
  const { port } = new URL(server.url);
  await expect(listen(appOf(scriptedEngine()).fetch, "127.0.0.1", Number(port))).rejects.toThrow(
    new SetupError(`port ${port} on 127.0.0.1 is in use; choose another with --port (0 takes a free one)`),
  );
  await expect(listen(appOf(scriptedEngine()).fetch, "203.0.113.1", 0)).rejects.toThrow(SetupError);
  await server.drain(0);
});

test("draining refuses new connections and lets a running stream end", async () => {
  let goOn = () => {};
  const engine = scriptedEngine({
    async *script(sequence, index) {
      yield wordEvent(sequence, index, 0);
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
      yield wordEvent(sequence, index, 1);
      yield {
        type: "end",
        index,
        finishReason: "stop",
        stopReason: null,
        text: "",
        promptTokens: 1,
        completionTokens: 2,
        cachedTokens: 0,
      };
    },
  });
  const server = await start(engine);
  const response = await stream(server.url);
  await until(() => engine.taken === 1);
  const drained = server.drain(60_000);
  await expect(fetch(`${server.url}/health`)).rejects.toThrow();
  goOn();
  expect(await response.text()).toContain("[DONE]");
  expect(await drained).toBe(0);
});

test("draining closes connections that are merely kept alive, or never spoke", async () => {
  const server = await start();
  const { hostname, port } = new URL(server.url);
  const agent = new Agent({ keepAlive: true });
  await new Promise((resolve) =>
    request(`${server.url}/health`, { agent }, (res) => res.resume().on("end", resolve)).end(),
  );
  const silent = connect(Number(port), hostname);
  await once(silent, "connect");
  let closed = 0;
  for (const socket of [silent, ...Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? [])]) {
    socket.on("close", () => closed++);
  }
  expect(await server.drain(60_000)).toBe(0);
  await until(() => closed === 2);
  agent.destroy();
});

test("draining tells the client of a running request not to use its connection again", async () => {
  const engine = scriptedEngine({
    async *script(sequence, index) {
      await drained;
      yield endEvent(sequence, index, 0);
    },
  });
  let draining = () => {};
  const drained = new Promise<void>((resolve) => {
    draining = resolve;
  });
  const server = await start(engine);
  const headers = { "Content-Type": "application/json" };
  const response = fetch(`${server.url}/v1/completions`, { method: "POST", headers, body: '{"prompt":"a"}' });
  await until(() => engine.load().running === 1);
  const end = server.drain(60_000);
  draining();
  expect((await response).headers.get("connection")).toBe("close");
  expect(await end).toBe(0);
});

test("what is still running at the limit is cut off, and counted", async () => {
  const engine = scriptedEngine({
    async *script(sequence, index, signal) {
      yield wordEvent(sequence, index, 0);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  const server = await start(engine);
  const response = await stream(server.url);
  await until(() => engine.taken === 1);
  expect(await server.drain(1)).toBe(1);
  await expect(response.text()).rejects.toThrow();
  await until(() => engine.stopped === 1);
});
