import type { Writable } from "node:stream";

const PING = ": ping\n\n";

/** What a stream of chunks ends with when nothing went wrong (OpenAI). */
const DONE = "[DONE]";

/** What a stream is written with. */
export interface StreamOptions {
  /** Silence after which a comment line is sent. */
  readonly pingMs: number;
  /** The last event after an error of the producer's: all that can be said of it once the headers are out. */
  readonly failure: (error: unknown) => object;
  /** Called once: when the last event is written, or (`left`) when the reader has gone; the producer must then end. */
  readonly closed: (left: boolean) => void;
}

/**
 * Writes chunks as server-sent events as they come, and closes. The next chunk is asked for when `to` has room for it, so
 * a slow reader slows its producer.
 */
export async function writeEvents(
  to: Writable,
  chunks: AsyncIterable<object>,
  { pingMs, failure, closed }: StreamOptions,
): Promise<void> {
  let open = true;
  const close = (left: boolean) => {
    if (!open) return;
    open = false;
    clearInterval(silence);
    closed(left);
  };
  const silence = setInterval(() => {
    if (!to.writableNeedDrain) to.write(PING);
  }, pingMs);
  to.once("close", () => close(true));
  to.on("error", () => {}); // a reader who goes; "close" follows
  let last = DONE;
  try {
    for await (const chunk of chunks) {
      if (to.destroyed) break;
      silence.refresh();
      if (!to.write(event(JSON.stringify(chunk))) && open) await roomIn(to);
    }
  } catch (error) {
    if (!to.destroyed) last = JSON.stringify(failure(error));
  }
  const left = to.destroyed;
  if (!left) to.end(event(last));
  close(left);
}

/** Resolves when there is room again, or nobody left who reads. */
function roomIn(to: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      to.off("drain", done).off("close", done);
      resolve();
    };
    to.on("drain", done).on("close", done);
  });
}

/** One server-sent event (WHATWG HTML, section 9.2). */
function event(data: string): string {
  return `data: ${data}\n\n`;
}
