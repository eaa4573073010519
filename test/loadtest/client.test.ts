import { execFile } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import {
  connectTraces,
  type Subprotocol,
  TraceClosed,
  TraceError,
  type TraceFrame,
  type TraceRequest,
  type TraceSocket,
} from "../../loadtest/client/index.js";
import { packageRoot } from "../../models/package-root.js";
import { endEvent, type Script, scriptedEngine, wordEvent } from "../server/scripted-engine.js";
import { serve, until, withServer } from "../server/with-server.js";
import { CLIENT_MESSAGES, clientMessages } from "./client-messages.js";

const SUBPROTOCOLS: readonly Subprotocol[] = ["lambdatap.v1.msgpack", "lambdatap.v1.json"];

async function all(frames: AsyncIterable<TraceFrame>): Promise<TraceFrame[]> {
  const read: TraceFrame[] = [];
  for await (const frame of frames) read.push(frame);
  return read;
}

const tokensOf = (frames: readonly TraceFrame[]) => frames.flatMap((frame) => (frame.type === "token" ? [frame] : []));

describe("a generation", () => {
  test("is the same frames in both subprotocols, with features and activations as typed arrays", async () => {
    const seen: TraceFrame[][] = [];
    await withServer(scriptedEngine(), async ({ url }) => {
      for (const subprotocol of SUBPROTOCOLS) {
        const socket = await connectTraces(url, { subprotocol });
        seen.push(await all(socket.generate({ prompt: "Once upon", max_tokens: 9, features: { prompt: true } })));
        await socket.close();
      }
    });
    const [packed = [], json = []] = seen;
    expect(packed.map(({ type }) => type)).toEqual([
      "start",
      ...Array(3).fill("prompt"),
      ...Array(9).fill("token"),
      "end",
    ]);
    expect(packed).toEqual(json);
    const reading = tokensOf(packed)[0]?.saes[0];
    expect(reading?.idx).toBeInstanceOf(Uint32Array);
    expect(reading?.val).toBeInstanceOf(Float32Array);
    expect(reading?.idx).toHaveLength(reading?.l0 ?? -1);
    expect(reading?.val[0]).toBeGreaterThan(reading?.val[1] ?? 0);
  });

  test("of several choices ends with the last of them", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const socket = await connectTraces(url);
      const frames = await all(socket.generate({ prompt: ["a", "b"], n: 2, max_tokens: 3 }));
      expect(frames.filter(({ type }) => type === "end").map(({ index }) => index)).toEqual([0, 1, 2, 3]);
      await socket.close();
    });
  });

  test("is cancelled when its reader leaves the loop, and the socket serves on", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const socket = await connectTraces(url);
      let tokens = 0;
      for await (const { type } of socket.generate({ prompt: "a", max_tokens: null })) {
        if (type === "token" && ++tokens === 5) break;
      }
      await until(() => engine.stopped === 1);
      const again = await all(socket.generate({ prompt: "a", max_tokens: 2 }));
      expect(tokensOf(again).map(({ seq }) => seq)).toEqual([0, 1]);
      await socket.close();
    });
  });

  test("is cancelled when its signal is aborted, before, while it waits and between tokens", async () => {
    const engine = scriptedEngine({ script: oneWord });
    await withServer(engine, async ({ url }) => {
      const socket = await connectTraces(url);
      const early = AbortSignal.abort(new Error("never mind"));
      await expect(all(socket.generate({ prompt: "a" }, { signal: early }))).rejects.toThrow("never mind");
      expect(engine.requests).toEqual([]);

      const controller = new AbortController();
      const reading = all(socket.generate({ prompt: "a" }, { signal: controller.signal }));
      await until(() => engine.taken === 1);
      controller.abort();
      await expect(reading).rejects.toMatchObject({ name: "AbortError" });
      await until(() => engine.stopped === 1);
      await socket.close();
    });
  });

  test("that is refused, or fails, throws what the server says", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        yield { type: "error", index, error: { kind: "not_finite", message: "the logits are not numbers" } };
      },
    });
    await withServer(engine, async ({ url }) => {
      const socket = await connectTraces(url);
      const failing = async (request: TraceRequest) => all(socket.generate(request)).catch((error: unknown) => error);
      const wrong = await failing({ prompt: "a", temperature: -1 });
      expect(wrong).toBeInstanceOf(TraceError);
      expect(wrong).toMatchObject({ type: "invalid_request_error", code: null, param: "temperature" });
      expect(await failing({ prompt: "a", model: "b" })).toMatchObject({ code: "model_not_found", param: "model" });
      expect(await failing({ prompt: "a" })).toMatchObject({
        code: "not_finite",
        message: "the logits are not numbers",
      });
      await socket.close();
    });
  });
});

/** One word, and then silence until it is stopped. */
const oneWord: Script = async function* (sequence, index, signal) {
  yield wordEvent(sequence, index, 0);
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
  yield endEvent(sequence, index, 1);
};

describe("a socket", () => {
  test("that the server closes throws in every loop, after what had come", async () => {
    const server = await serve(scriptedEngine({ script: oneWord }));
    const socket = await connectTraces(server.url);
    const seen: TraceFrame[] = [];
    const reading = (async () => {
      for await (const frame of socket.generate({ prompt: "a" })) {
        seen.push(frame);
        if (frame.type === "token") await server.drain(0);
      }
    })();
    await expect(reading).rejects.toThrow(TraceClosed);
    expect(seen.map(({ type }) => type)).toEqual(["start", "token"]);
    await expect(all(socket.generate({ prompt: "a" }))).rejects.toMatchObject({ name: "TraceClosed", code: 1001 });
  });

  test("that a server in drain closes says so: 1001", async () => {
    const server = await serve(scriptedEngine());
    const socket = await connectTraces(server.url);
    await server.drain(60_000);
    await expect(all(socket.generate({ prompt: "a" }))).rejects.toMatchObject({ name: "TraceClosed", code: 1001 });
  });

  test("that is closed here cancels what runs on it", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const socket = await connectTraces(url);
      const reading = all(socket.generate({ prompt: "a", max_tokens: null }));
      await until(() => engine.taken > 5);
      await Promise.all([expect(reading).rejects.toThrow(TraceClosed), socket.close()]);
      await until(() => engine.stopped === 1);
      await socket.close();
    });
  });

  test("that a server does not close is left", async () => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    server.on("connection", (theirs) => theirs.pause());
    await once(server, "listening");
    const socket = await connectTraces(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    await socket.close();
    for (const theirs of server.clients) theirs.terminate();
    server.close();
  }, 15_000);

  test("that is refused throws the server's reason; where there is no server, the connection's", async () => {
    const server = await serve(scriptedEngine());
    const foreign = { headers: { Origin: "https://evil.example" } };
    await expect(connectTraces(server.url, foreign)).rejects.toMatchObject({ name: "TraceError", code: "forbidden" });
    await expect(connectTraces(`${server.url}/elsewhere`)).rejects.toMatchObject({ code: "unknown_url" });
    await server.drain(0);
    await expect(connectTraces(server.url)).rejects.toMatchObject({ code: "ECONNREFUSED" });
  });
});

describe.each(SUBPROTOCOLS)("over %s a slow reader", (subprotocol) => {
  const TOTAL = 600;
  const script: Script = async function* (sequence, index) {
    for (let seq = 0; seq < TOTAL; seq++) yield wordEvent(sequence, index, seq, "x".repeat(30_000));
    yield endEvent(sequence, index, TOTAL);
  };

  /** Reads all; `mayRead` holds it up before each frame. */
  async function readSlowly(socket: TraceSocket, mayRead: () => Promise<void>): Promise<number[]> {
    const seqs: number[] = [];
    for await (const frame of socket.generate({ prompt: "a", features: null, max_tokens: null })) {
      if (frame.type === "token") seqs.push(frame.seq);
      await mayRead();
    }
    return seqs;
  }

  test("makes the engine wait, and loses nothing; others on its socket wait with it, on another they do not", async () => {
    const engine = scriptedEngine({ script });
    await withServer(engine, async ({ url }) => {
      const [socket, other] = [await connectTraces(url, { subprotocol }), await connectTraces(url, { subprotocol })];
      let goOn = () => {};
      const gate = new Promise<void>((resolve) => {
        goOn = resolve;
      });
      const slow = readSlowly(socket, () => gate);
      const brisk = readSlowly(socket, async () => {});
      const elsewhere = await readSlowly(other, async () => {});
      expect(elsewhere).toHaveLength(TOTAL);
      let before = -1;
      for (let same = 0; same < 20; ) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        same = engine.taken === before ? same + 1 : 0;
        before = engine.taken;
      }
      expect(engine.taken).toBeLessThan(3 * TOTAL);
      goOn();
      const whole = Array.from({ length: TOTAL }, (_, i) => i);
      expect(await slow).toEqual(whole);
      expect(await brisk).toEqual(whole);
      await Promise.all([socket.close(), other.close()]);
    });
  });
});

describe("the package", () => {
  test("has the types of the schema that the server publishes (npm run generate:client writes them)", async () => {
    expect(readFileSync(join(packageRoot(), CLIENT_MESSAGES), "utf8")).toBe(await clientMessages());
  });

  test("has a client that needs nothing of the server", () => {
    const folder = join(packageRoot(), "loadtest", "client");
    const imports = readdirSync(folder).flatMap((file) => [
      ...readFileSync(join(folder, file), "utf8").matchAll(/^(?:import|export) .*?from "([^"]+)"/gms),
    ]);
    const modules = new Set(imports.map(([, module]) => module).filter((module) => !module?.startsWith("./")));
    expect([...modules].sort()).toEqual(["@msgpack/msgpack", "node:http", "ws"]);
  });

  test("exports the client, and nothing else but its own description", async () => {
    const run = (code: string) =>
      promisify(execFile)(process.execPath, ["--input-type=module", "-e", code], { cwd: packageRoot() });
    const { stdout } = await run('console.log(Object.keys(await import("lambdatap/client")).join())');
    expect(stdout.trim()).toBe("TraceClosed,TraceError,connectTraces");
    await run('await import("lambdatap/package.json", { with: { type: "json" } })');
    await expect(run('await import("lambdatap/dist/server/app.js")')).rejects.toThrow("ERR_PACKAGE_PATH_NOT_EXPORTED");
    await expect(run('await import("lambdatap")')).rejects.toThrow("ERR_PACKAGE_PATH_NOT_EXPORTED");
  });
});
