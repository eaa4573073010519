import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIPv6 } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener, RequestError } from "@hono/node-server";
import { SetupError } from "../runtime/contract/errors.js";
import { HttpError, renderError } from "./errors.js";

export interface HttpServer {
  /** "http://127.0.0.1:8080": the address that was really taken. */
  readonly url: string;
  /**
   * Stops listening, lets running requests end for at most `limitMs`, then closes what is left.
   * @param endAll called at the limit: ends all requests with an error, which their clients are given a moment to read
   * @returns how many requests did not end by themselves, those on upgraded connections included
   */
  drain(limitMs: number, endAll?: () => void): Promise<number>;
}

/** Takes connections over from HTTP. */
export interface Upgrades {
  /** Whether the request opens what is spoken here; else it is answered as if it had asked for no upgrade. */
  accepts(request: IncomingMessage): boolean;
  take(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Takes nothing new; resolves when all that runs has ended and every connection has closed. */
  drain(): Promise<void>;
  /** Requests that have not ended. */
  running(): number;
  /** Ends every connection now. */
  cut(): void;
}

/** For a client to be told why its request ends. */
const LAST_WORDS_MS = 2000;

type Fetch = Parameters<typeof getRequestListener>[0];

/**
 * Serves `fetch` on a port; 0 takes a free one.
 * @throws SetupError in a sentence: port in use, no such address, no right to it.
 */
export async function listen(fetch: Fetch, host: string, port: number, upgrades?: Upgrades): Promise<HttpServer> {
  const listener = getRequestListener(fetch, { overrideGlobalObjects: false, errorHandler: renderRefusal });
  const open = new Set<ServerResponse>();
  let draining = false;
  const server = createServer((incoming, outgoing) => {
    if (draining) outgoing.setHeader("Connection", "close");
    open.add(outgoing);
    outgoing.once("close", () => open.delete(outgoing));
    void listener(incoming, outgoing);
  });
  if (upgrades) {
    server.on("upgrade", (request, socket, head) => {
      if (upgrades.accepts(request)) upgrades.take(request, socket, head);
      else withoutUpgrade(server, request, socket, head);
    });
  }
  // Above the idle time of the usual client pools, so that it is the client who closes an idle connection.
  server.keepAliveTimeout = 75_000;
  server.listen(port, host);
  await once(server, "listening").catch((error: unknown) => {
    throw new SetupError(whyNot(error, host, port));
  });
  return {
    url: `http://${isIPv6(host) ? `[${host}]` : host}:${portOf(server.address(), port)}`,
    async drain(limitMs, endAll) {
      draining = true;
      server.close();
      // Tells clients not to send their next request on a connection that is about to close.
      for (const response of open) if (!response.headersSent) response.setHeader("Connection", "close");
      const ended = Promise.all([allClosed(open), upgrades?.drain()]);
      await within(limitMs, ended);
      const left = open.size + (upgrades?.running() ?? 0);
      if (left > 0 && endAll !== undefined) {
        endAll();
        await within(LAST_WORDS_MS, ended);
      }
      upgrades?.cut();
      server.closeAllConnections(); // also those that are merely kept alive
      return left;
    },
  };
}

/** Resolves with the work, or when it has taken too long. */
function within(limitMs: number, work: Promise<unknown>): Promise<unknown> {
  return Promise.race([work, new Promise((resolve) => setTimeout(resolve, limitMs).unref())]);
}

async function allClosed(open: ReadonlySet<ServerResponse>): Promise<void> {
  while (open.size > 0) await Promise.all([...open].map((response) => once(response, "close")));
}

/**
 * Answers a request as if it had not asked for an upgrade (RFC 9110, 7.8), which Node leaves to nobody once somebody
 * listens for upgrades: Java's client asks for h2c with its first POST. The connection is given back with its bytes.
 */
function withoutUpgrade(server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const { method, url, httpVersion, rawHeaders } = request;
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== "upgrade") lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), head]));
  server.emit("connection", socket);
}

/** What never reaches the app: a Host or a path that makes no URL. */
function renderRefusal(error: unknown): Response {
  const refusal = error instanceof RequestError ? new HttpError(400, "bad_request", error.message) : error;
  const { status, body } = renderError(refusal);
  return Response.json(body, { status });
}

function whyNot(error: unknown, host: string, port: number): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE")
    return `port ${port} on ${host} is in use; choose another with --port (0 takes a free one)`;
  if (code === "EACCES")
    return `port ${port} on ${host} needs more rights than this process has; choose another with --port`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return `this machine has no address ${host}; choose another with --host`;
  return `cannot listen on ${host}:${port}: ${error instanceof Error ? error.message : error}`;
}

function portOf(address: ReturnType<ReturnType<typeof createServer>["address"]>, port: number): number {
  return typeof address === "object" && address !== null ? address.port : port;
}
