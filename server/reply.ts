import type { Context } from "hono";
import { ClientGone } from "./errors.js";
import type { AppEnv, Exchange } from "./exchange.js";
import { eventStream, sseEvent } from "./sse.js";

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
      const body = eventStream(toEvents(chunks, exchange, client.signal), pingMs, (left) => {
        end(left);
        release();
      });
      return c.body(body, 200, { "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache" });
    },
  };
}

/** The chunks as server-sent events. After the headers an error can only be one more event; then no [DONE] follows. */
async function* toEvents(
  chunks: AsyncIterable<object>,
  exchange: Exchange,
  gone: AbortSignal,
): AsyncGenerator<string, void> {
  try {
    for await (const chunk of chunks) yield sseEvent(JSON.stringify(chunk));
    yield sseEvent("[DONE]");
  } catch (error) {
    if (!gone.aborted) yield sseEvent(JSON.stringify(exchange.fail(error).body));
  }
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
