import { encode } from "@msgpack/msgpack";
import { WebSocket } from "ws";
import { createFrameQueue, type FrameQueue } from "./frame-queue.js";
import { openSocket } from "./handshake.js";
import type { ErrorFrame, GenerateMessage } from "./messages.js";
import { TraceClosed, TraceError } from "./trace-error.js";
import { readFrame, type Subprotocol, type TraceFrame } from "./trace-frame.js";

/** What is generated: the body of POST /v1/completions; `features` and `logprobs` are on unless it says otherwise. */
export type TraceRequest = Omit<GenerateMessage, "type" | "id">;

export interface ConnectOptions {
  /** Default: lambdatap.v1.msgpack. */
  readonly subprotocol?: Subprotocol;
  /** Headers of the handshake. */
  readonly headers?: Readonly<Record<string, string>>;
  /** How long the server may take to accept the socket, ms; default: 30,000. */
  readonly handshakeTimeoutMs?: number;
  /** Bytes of frames that may wait for their readers before the socket is not read; default: 1 MiB. */
  readonly highWaterMark?: number;
}

export interface TraceSocket {
  /**
   * Generates from the first frame asked for. Every choice has a start frame, then its tokens in order, then an end frame;
   * leaving the loop, or aborting, cancels what has not ended.
   *
   * Any number of generations share the socket, and with it one stream of bytes: once the unread frames of all of them
   * reach the high-water mark, none gets more until some are read, and the server pauses them. So a reader that waits
   * for another's end, or is much slower, needs a socket of its own.
   * @throws TraceError at the first error frame; TraceClosed when the socket closes; the signal's reason when it aborts.
   */
  generate(request: TraceRequest, options?: { readonly signal?: AbortSignal }): AsyncGenerator<TraceFrame, void, void>;
  /** Closes the socket; generations that run are cancelled. A server that does not answer is left after three seconds. */
  close(): Promise<void>;
}

/** A field that is undefined is left out, as JSON has it. */
const PACKING = { ignoreUndefined: true };
/** A stopped reader answers no pings: this often it says that it lives. */
const PONG_MS = 15_000;
const HANDSHAKE_MS = 30_000;
const CLOSE_MS = 3000;

/**
 * Opens a trace socket to a server, e.g. `connectTraces("http://127.0.0.1:8080")`. It is not opened again when it closes.
 * @throws TraceError where the server refuses it; the connection's own error where there is none.
 */
export async function connectTraces(server: string | URL, options: ConnectOptions = {}): Promise<TraceSocket> {
  const { subprotocol = "lambdatap.v1.msgpack", headers = {}, highWaterMark = 1 << 20 } = options;
  const socket = await openSocket(server, subprotocol, headers, options.handshakeTimeoutMs ?? HANDSHAKE_MS);
  const queues = new Map<string, FrameQueue>();
  /** Of generations that the server has not answered: one of them sent what is refused without an id. */
  const unanswered = new Set<FrameQueue>();
  let generations = 0;
  let closed: Error | null = null;
  let unread = 0;
  const backlog = {
    add(bytes: number) {
      unread += bytes;
      if (unread >= highWaterMark) socket.pause();
    },
    remove(bytes: number) {
      unread -= bytes;
      if (unread < highWaterMark / 2 && socket.isPaused) socket.resume();
    },
  };
  const end = (error: Error): void => {
    closed ??= error;
    for (const queue of queues.values()) queue.fail(closed);
  };
  const deliver = (frame: TraceFrame | ErrorFrame, bytes: number): void => {
    if (frame.id === null) {
      for (const queue of unanswered) queue.push(frame, bytes);
      return;
    }
    const queue = queues.get(frame.id);
    if (queue === undefined) return;
    unanswered.delete(queue);
    queue.push(frame, bytes);
  };
  const heartbeat = setInterval(() => {
    if (socket.isPaused) socket.pong();
  }, PONG_MS).unref();
  socket.on("message", (data, isBinary) => {
    if (!Buffer.isBuffer(data) || closed) return;
    try {
      const frame = readFrame(data, isBinary);
      if (frame !== null) deliver(frame, data.length);
    } catch (error) {
      end(new Error("the server sent what cannot be read", { cause: error }));
      socket.terminate();
    }
  });
  socket.on("close", (code, reason) => {
    clearInterval(heartbeat);
    end(new TraceClosed(code, reason.toString()));
  });
  const send = (message: object): void => {
    const text = subprotocol === "lambdatap.v1.json";
    if (socket.readyState === WebSocket.OPEN) socket.send(text ? JSON.stringify(message) : encode(message, PACKING));
  };

  return {
    async *generate(request, { signal } = {}) {
      signal?.throwIfAborted();
      if (closed) throw closed;
      const id = String(generations++);
      const queue = createFrameQueue(backlog);
      const abort = (): void => {
        queue.drop();
        queue.fail(signal?.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      queues.set(id, queue);
      unanswered.add(queue);
      send({ ...request, type: "generate", id });
      // All start frames come before any other frame.
      let choices = 0;
      let ended = 0;
      try {
        while (choices === 0 || ended < choices) {
          const frame = await queue.next();
          if (frame.type === "error") throw new TraceError(frame.error);
          if (frame.type === "start") choices += 1;
          if (frame.type === "end") ended += 1;
          yield frame;
        }
      } finally {
        signal?.removeEventListener("abort", abort);
        queues.delete(id);
        unanswered.delete(queue);
        queue.drop();
        if (choices === 0 || ended < choices) send({ type: "cancel", id });
      }
    },
    async close() {
      end(new TraceClosed(1000, "closed here"));
      if (socket.readyState === WebSocket.CLOSED) return;
      const gone = new Promise((resolve) => socket.once("close", resolve));
      socket.resume();
      socket.close(1000);
      const limit = setTimeout(() => socket.terminate(), CLOSE_MS);
      await gone;
      clearTimeout(limit);
    },
  };
}
