import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { scriptedEngine } from "./scripted-engine.js";
import { openTraces } from "./trace-wire.js";
import { errorOf } from "./wire.js";
import { appOf, type ServerOptions, until, withServer } from "./with-server.js";

/** What a refused handshake is answered with. */
async function refused(
  url: string,
  { path = "/v1/traces", headers = {} }: { readonly path?: string; readonly headers?: Record<string, string> },
): Promise<{ status: number | undefined; body: unknown }> {
  const handshake = {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
  };
  const asked = request(url + path, { headers: { ...handshake, ...headers } }).end();
  const [response, socket]: [IncomingMessage, Socket?] = await new Promise((resolve, reject) => {
    asked.on("upgrade", (answer, taken) => resolve([answer, taken]));
    asked.on("response", (answer) => resolve([answer]));
    asked.on("error", reject);
  });
  socket?.destroy();
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += chunk;
  return { status: response.statusCode, body: JSON.parse(text) };
}

describe("a trace socket", () => {
  test.each([
    [[], ""],
    [["lambdatap.v1.json"], "lambdatap.v1.json"],
    [["lambdatap.v1.msgpack"], "lambdatap.v1.msgpack"],
    [["lambdatap.v2.json", "lambdatap.v1.json", "lambdatap.v1.msgpack"], "lambdatap.v1.json"],
  ])("that offers %j speaks '%s'", async (offered, spoken) => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const socket = new WebSocket(`${url}/v1/traces?from=here`, offered);
      await once(socket, "open");
      expect(socket.protocol).toBe(spoken);
      expect(socket.extensions).toBe("");
      socket.close();
    });
  });

  test.each<[string, Parameters<typeof refused>[1], number, string]>([
    [
      "of another subprotocol",
      { headers: { "Sec-WebSocket-Protocol": "mqtt, lambdatap.v2.json" } },
      400,
      "unknown_subprotocol",
    ],
    ["from a foreign page", { headers: { Origin: "https://evil.example" } }, 403, "forbidden"],
    ["under a foreign name", { headers: { Host: "evil.example" } }, 403, "forbidden"],
    ["on another path", { path: "/v1/completions" }, 405, "method_not_allowed"],
    ["on no path of ours", { path: "/v1/tracers" }, 404, "unknown_url"],
    ["of an older version", { headers: { "Sec-WebSocket-Version": "8" } }, 426, "upgrade_required"],
    ["with a wrong key", { headers: { "Sec-WebSocket-Key": "short" } }, 426, "upgrade_required"],
  ])("%s is refused in OpenAI's shape", async (_, asked, status, code) => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const answer = await refused(url, asked);
      expect(answer).toMatchObject({ status, body: { error: { code, param: null } } });
      const other = await openTraces(url);
      other.socket.close();
    });
  });

  test("may come from pages and under names that the server was told of", async () => {
    const guard: ServerOptions = { guard: { allowedHosts: ["tap.example"], allowedOrigins: ["https://lab.example"] } };
    const headers = { Host: "tap.example", Origin: "https://lab.example" };
    await withServer(
      scriptedEngine(),
      async ({ url }) => (await openTraces(url, "lambdatap.v1.json", { headers })).socket.close(),
      guard,
    );
  });
});

describe("over HTTP", () => {
  test("GET /v1/traces asks for an upgrade: 426; anything else: 405; a draining server: 503", async () => {
    const app = appOf(scriptedEngine());
    const get = await app.request("/v1/traces");
    expect(get.status).toBe(426);
    expect(get.headers.get("upgrade")).toBe("websocket");
    expect((await errorOf(get)).code).toBe("upgrade_required");
    expect((await app.request("/v1/traces", { method: "POST" })).status).toBe(405);
    const draining = appOf(scriptedEngine(), { isDraining: () => true });
    expect((await draining.request("/v1/traces")).status).toBe(503);
  });

  test("a request that asks for another protocol is answered in this one, body and all", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const body = JSON.stringify({ prompt: "a", max_tokens: 2 });
      const headers = {
        "Content-Type": "application/json",
        Connection: "Upgrade, HTTP2-Settings",
        Upgrade: "h2c",
        "HTTP2-Settings": "AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
      };
      const asked = request(`${url}/v1/completions`, { method: "POST", headers }).end(body);
      const [response]: IncomingMessage[] = await once(asked, "response");
      expect(response?.statusCode).toBe(200);
      let text = "";
      for await (const chunk of response?.setEncoding("utf8") ?? []) text += chunk;
      expect(JSON.parse(text)).toMatchObject({ choices: [{ text: " w100 w101" }] });
    });
  });

  test("a connection serves on after an upgrade that was ignored", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const socket = connect(Number(new URL(url).port), "127.0.0.1");
      let heard = "";
      socket.setEncoding("latin1").on("data", (text: string) => {
        heard += text;
      });
      const get = (more: string) => `GET /health HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
      socket.write(get("Connection: Upgrade\r\nUpgrade: h2c\r\n"));
      await until(() => heard.split('"status":"ok"').length === 2);
      socket.write(get(""));
      await until(() => heard.split('"status":"ok"').length === 3);
      socket.write(get("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
      await until(() => heard.split('"status":"ok"').length === 4);
      socket.destroy();
    });
  });
});
