import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { isIPv6 } from "node:net";
import { getRequestListener, RequestError } from "@hono/node-server";
import { SetupError } from "../runtime/errors.js";
import { HttpError, renderError } from "./errors.js";

export interface HttpServer {
  /** "http://127.0.0.1:8080": the address that was really taken. */
  readonly url: string;
  /**
   * Stops listening, lets running requests end for at most `limitMs`, then closes what is left.
   * @returns how many requests were cut off
   */
  drain(limitMs: number): Promise<number>;
}

type Fetch = Parameters<typeof getRequestListener>[0];

/**
 * Serves `fetch` on a port; 0 takes a free one.
 * @throws SetupError in a sentence: port in use, no such address, no right to it.
 */
export async function listen(fetch: Fetch, host: string, port: number): Promise<HttpServer> {
  const listener = getRequestListener(fetch, { overrideGlobalObjects: false, errorHandler: renderRefusal });
  const open = new Set<ServerResponse>();
  let draining = false;
  const server = createServer((incoming, outgoing) => {
    if (draining) outgoing.setHeader("Connection", "close");
    open.add(outgoing);
    outgoing.once("close", () => open.delete(outgoing));
    void listener(incoming, outgoing);
  });
  // Above the idle time of the usual client pools, so that it is the client who closes an idle connection.
  server.keepAliveTimeout = 75_000;
  server.listen(port, host);
  await once(server, "listening").catch((error: unknown) => {
    throw new SetupError(whyNot(error, host, port));
  });
  return {
    url: `http://${isIPv6(host) ? `[${host}]` : host}:${portOf(server.address(), port)}`,
    async drain(limitMs) {
      draining = true;
      server.close();
      // Tells clients not to send their next request on a connection that is about to close.
      for (const response of open) if (!response.headersSent) response.setHeader("Connection", "close");
      await Promise.race([allClosed(open), new Promise((resolve) => setTimeout(resolve, limitMs).unref())]);
      const cut = open.size;
      server.closeAllConnections(); // also those that are merely kept alive
      return cut;
    },
  };
}

async function allClosed(open: ReadonlySet<ServerResponse>): Promise<void> {
  while (open.size > 0) await Promise.all([...open].map((response) => once(response, "close")));
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
