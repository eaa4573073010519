import type { WebSocket } from "ws";

export interface HeartbeatTimes {
  /** Between pings. */
  readonly pingMs: number;
  /** Silence after which the peer is taken for dead. */
  readonly silenceMs: number;
}

/** A reader may be stopped for a while, at a debugger's prompt for one, and has lost nothing. */
export const HEARTBEAT: HeartbeatTimes = { pingMs: 30_000, silenceMs: 120_000 };

/**
 * Terminates a socket whose peer sends nothing, not even pongs. While frames wait for their reader, or its messages for
 * us, silence says nothing: then a reader is slow, which is the engine's to judge (its stall timeout), or the system's.
 */
export function terminateWhenDead(socket: WebSocket, { pingMs, silenceMs }: HeartbeatTimes): void {
  let heard = performance.now();
  const hear = (): void => {
    heard = performance.now();
  };
  socket.on("message", hear).on("ping", hear).on("pong", hear);
  const timer = setInterval(() => {
    if (socket.bufferedAmount > 0 || socket.isPaused) hear();
    else if (performance.now() - heard > silenceMs) socket.terminate();
    else socket.ping();
  }, pingMs).unref();
  socket.on("close", () => clearInterval(timer));
}
