import type { IncomingMessage } from "node:http";
import type { Logger } from "pino";
import { type WebSocket, WebSocketServer } from "ws";
import { createGuard, type GuardRules } from "../guard.js";
import type { Upgrades } from "../http.js";
import { openLogLine } from "../log-line.js";
import { codecOf } from "./codec.js";
import { chooseSubprotocol, handshakeError, TRACE_PATH } from "./handshake.js";
import { HEARTBEAT, type HeartbeatTimes, terminateWhenDead } from "./heartbeat.js";
import type { TraceLimits } from "./trace.js";
import { serveTraces, type TraceSocket } from "./trace-socket.js";

export interface TraceOptions extends TraceLimits {
  readonly logger: Logger;
  readonly guard: GuardRules;
  /** Largest message of a client; a larger one closes its socket with 1009. */
  readonly maxBodyBytes: number;
  readonly heartbeat?: HeartbeatTimes;
}

/** For GET /health. */
export interface TraceLoad {
  readonly sockets: number;
  /** Bytes that wait for their readers, in this process. */
  readonly queuedBytes: number;
}

export interface TraceServer extends Upgrades {
  load(): TraceLoad;
}

/** The WebSocket /v1/traces. What opens no socket is an HTTP request, which the app refuses and logs. */
export function createTraceServer(options: TraceOptions): TraceServer {
  const { logger, heartbeat = HEARTBEAT } = options;
  const refusal = createGuard(options.guard);
  const open = new Map<WebSocket, TraceSocket>();
  let draining = false;
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: options.maxBodyBytes,
    handleProtocols: (offered) => chooseSubprotocol(offered) ?? false,
  });

  const serve = (socket: WebSocket, request: IncomingMessage): void => {
    const line = openLogLine(logger, request.headers["x-request-id"]?.toString());
    const { id } = line;
    open.set(socket, serveTraces(socket, codecOf(socket.protocol), options, logger, id));
    terminateWhenDead(socket, heartbeat);
    socket.on("error", (error) => logger.debug({ id, err: error }, "socket error"));
    socket.on("close", (code) => {
      open.delete(socket);
      line.note({ code });
      line.write("request", { method: "GET", path: TRACE_PATH, status: 101 });
    });
  };
  return {
    accepts({ method, url, headers }) {
      if (draining || method !== "GET" || url?.split("?", 1)[0]?.replace(/\/$/, "") !== TRACE_PATH) return false;
      if (headers.upgrade?.toLowerCase() !== "websocket" || refusal(headers.host, headers.origin) !== null)
        return false;
      return handshakeError((name) => headers[name]?.toString()) === null;
    },
    take: (request, socket, head) => server.handleUpgrade(request, socket, head, serve),
    async drain() {
      draining = true;
      const closed = [...open.keys()].map((socket) => new Promise((resolve) => socket.once("close", resolve)));
      for (const { drain } of open.values()) drain();
      await Promise.all(closed);
    },
    running: () => [...open.values()].reduce((sum, { running }) => sum + running(), 0),
    cut() {
      for (const socket of open.keys()) {
        socket.close(1001, "the server is shutting down");
        socket.terminate();
      }
    },
    load: () => ({
      sockets: open.size,
      queuedBytes: [...open.keys()].reduce((sum, { bufferedAmount }) => sum + bufferedAmount, 0),
    }),
  };
}
