import { PassThrough, Readable, type Writable } from "node:stream";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { Context } from "hono";
import { ClientGone } from "./errors.js";
import type { AppEnv, Exchange } from "./exchange.js";
import { writeEvents } from "./sse.js";

/** How a request is answered that keeps the engine at work: at once when all is done, or in chunks as they come. */
export interface Reply {
  /** Aborts when the client hangs up, and when the answer has ended: whoever works for it then stops. */
  readonly signal: AbortSignal;
  whole(answer: Promise<object>): Promise<Response>;
  /** Server-sent events with a closing [DONE]. */
  stream(chunks: AsyncIterable<object>): Response;
}

/**
 * @param pingMs silence on a stream after which a comment line is sent
 * @param fields what the log is told when the answer has ended
 */
export function replyTo(c: Context<AppEnv>, pingMs: number, fields: () => Parameters<Exchange["note"]>[0]): Reply {
  const { exchange } = c.var;
  const client = new AbortController();
  const letGo = follow(c.req.raw.signal, client);
  const end = (clientGone: boolean) => {
    exchange.note({ ...fields(), ...(clientGone ? { clientGone } : {}) });
    letGo();
    client.abort();
  };
  return {
    signal: client.signal,
    async whole(answer) {
      try {
        return c.json(await answer);
      } catch (error) {
        throw client.signal.aborted ? new ClientGone("The client hung up") : error;
      } finally {
        end(client.signal.aborted);
      }
    },
    stream(chunks) {
      const release = exchange.hold();
      const { body, response } = openBody(c);
      void writeEvents(body, chunks, {
        pingMs,
        failure: (error) => exchange.fail(error).body,
        closed(left) {
          end(left);
          release();
        },
      });
      return response;
    },
  };
}

/**
 * A response of server-sent events, and where they are written: the socket's own response where there is one (through a
 * web stream every event costs the thread a fifth more), else the response's body.
 */
function openBody(c: Context<AppEnv>): { readonly body: Writable; readonly response: Response } {
  const headers = { "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache" };
  const outgoing = c.env?.outgoing;
  if (outgoing === undefined) {
    const body = new PassThrough();
    return { body, response: c.body(Readable.toWeb(body), 200, headers) };
  }
  outgoing.writeHead(200, Object.fromEntries(c.body(null, 200, headers).headers));
  outgoing.flushHeaders();
  return { body: outgoing, response: RESPONSE_ALREADY_SENT };
}

/**
 * Aborts the controller when the signal aborts, until the returned function is called. It must be: undici keeps the signal
 * of a request, and with it every listener and what that refers to, for as long as anything refers to the request.
 */
function follow(signal: AbortSignal, controller: AbortController): () => void {
  const abort = () => controller.abort();
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return () => signal.removeEventListener("abort", abort);
}
