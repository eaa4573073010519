import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { createGuard, type GuardRules } from "../../server/guard.js";
import { scriptedEngine } from "./scripted-engine.js";
import { errorOf } from "./wire.js";
import { appOf, withServer } from "./with-server.js";

const RULES: GuardRules = { boundHost: "127.0.0.1", allowedHosts: [], allowedOrigins: [] };
const allows = (rules: Partial<GuardRules>, host: string | undefined, origin?: string) =>
  createGuard({ ...RULES, ...rules })(host, origin) === null;

describe("Host", () => {
  test.each(["localhost", "localhost:8080", "LOCALHOST.", "127.0.0.1:1", "[::1]", "[::1]:8080"])(
    "%s is ours",
    (host) => {
      expect(allows({}, host)).toBe(true);
    },
  );
  test.each([
    "evil.com",
    "evil.com:8080",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "192.168.1.5",
    "[::2]",
    "",
    "localhost@evil.com",
    "a b",
  ])("%s is foreign", (host) => {
    expect(allows({}, host)).toBe(false);
  });
  test("missing is foreign", () => expect(allows({}, undefined)).toBe(false));
  test("bound to an address, that address is ours too", () => {
    expect(allows({ boundHost: "192.168.1.5" }, "192.168.1.5:80")).toBe(true);
    expect(allows({ boundHost: "fd00::1" }, "[fd00::1]:80")).toBe(true);
    expect(allows({ boundHost: "192.168.1.5" }, "192.168.1.6")).toBe(false);
  });
  test.each(["0.0.0.0", "::"])("bound to %s, every address is ours, but no name", (boundHost) => {
    expect(allows({ boundHost }, "192.168.1.5:8080")).toBe(true);
    expect(allows({ boundHost }, "[fd00::1]:8080")).toBe(true);
    expect(allows({ boundHost }, "evil.com")).toBe(false);
  });
  test("allowed by name, or all", () => {
    expect(allows({ allowedHosts: ["lab.example.com"] }, "lab.example.com:8080")).toBe(true);
    expect(allows({ allowedHosts: ["lab.example.com:8080"] }, "Lab.Example.com")).toBe(true);
    expect(allows({ allowedHosts: ["lab.example.com"] }, "evil.com")).toBe(false);
    expect(allows({ allowedHosts: ["*"] }, "evil.com")).toBe(true);
  });
});

describe("Origin", () => {
  test.each(["http://localhost:3000", "https://localhost", "http://127.0.0.1:5173", "http://[::1]:1"])(
    "%s may ask",
    (origin) => {
      expect(allows({}, "localhost", origin)).toBe(true);
    },
  );
  test.each([
    "https://evil.com",
    "null",
    "",
    "file://",
    "http://localhost.evil.com",
    "https://evil.com:80",
    "chrome-extension://abc",
  ])("%s may not", (origin) => {
    expect(allows({}, "localhost", origin)).toBe(false);
  });
  test("allowed by name, or all", () => {
    const allowedOrigins = ["https://lab.example.com/", "chrome-extension://abc"];
    expect(allows({ allowedOrigins }, "localhost", "https://lab.example.com")).toBe(true);
    expect(allows({ allowedOrigins }, "localhost", "chrome-extension://abc")).toBe(true);
    expect(allows({ allowedOrigins }, "localhost", "http://lab.example.com")).toBe(false);
    expect(allows({ allowedOrigins: ["*"] }, "localhost", "null")).toBe(true);
  });
  test("of a page that the server itself gave out may ask, unless every Host is let in", () => {
    const rules = { boundHost: "0.0.0.0" };
    expect(allows(rules, "192.168.1.5:8080", "http://192.168.1.5:8080")).toBe(true);
    expect(allows(rules, "192.168.1.5:8080", "http://192.168.1.6:8080")).toBe(false);
    expect(allows({ allowedHosts: ["*"] }, "rebound.evil.com", "http://rebound.evil.com")).toBe(false);
  });
});

describe("over HTTP", () => {
  const app = appOf(scriptedEngine(), { guard: { allowedOrigins: ["https://lab.example.com"] } });

  test("a foreign Host or Origin gets 403 on every path", async () => {
    for (const path of ["/health", "/v1/models", "/v1/completions", "/nothing"]) {
      const origin = await app.request(path, { headers: { Origin: "https://evil.com" } });
      expect(origin.status).toBe(403);
      expect(origin.headers.get("access-control-allow-origin")).toBe(null);
      expect(await errorOf(origin)).toMatchObject({ type: "permission_error", code: "forbidden" });
      expect((await app.request(path, { headers: { Host: "evil.com" } })).status).toBe(403);
    }
  });

  test("a preflight is answered for allowed origins only", async () => {
    const preflight = (Origin: string) =>
      app.request("/v1/completions", {
        method: "OPTIONS",
        headers: {
          Origin,
          "Access-Control-Request-Method": "POST",
          "Access-Control-Request-Headers": "content-type,x-stainless-os",
        },
      });
    const allowed = await preflight("https://lab.example.com");
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get("access-control-allow-origin")).toBe("https://lab.example.com");
    expect(allowed.headers.get("access-control-allow-headers")).toBe("content-type,x-stainless-os");
    expect((await preflight("https://evil.com")).status).toBe(403);
  });

  test("an allowed origin may also read errors", async () => {
    const response = await app.request("/nothing", { headers: { Origin: "http://localhost:3000" } });
    expect(response.status).toBe(404);
    expect(response.headers.get("access-control-allow-origin")).toBe("http://localhost:3000");
  });

  test("the Host line of a real request counts, also without a version that demands one", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const answer = async (lines: string) => {
        const socket = connect(Number(new URL(url).port), "127.0.0.1");
        socket.write(lines);
        return text(socket);
      };
      expect(await answer("GET /health HTTP/1.1\r\nHost: evil.com\r\nConnection: close\r\n\r\n")).toMatch(
        /^HTTP\/1.1 403/,
      );
      expect(await answer("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).toMatch(
        /^HTTP\/1.1 200/,
      );
      expect(await answer("GET /health HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1.1 400/);
      expect(
        await answer("GET http://localhost/health HTTP/1.1\r\nHost: evil.com\r\nConnection: close\r\n\r\n"),
      ).toMatch(/ 403/);
    });
  });
});
