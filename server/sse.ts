const PING = ": ping\n\n";

/** One server-sent event (WHATWG HTML, section 9.2). */
export function sseEvent(data: string): string {
  return `data: ${data}\n\n`;
}

/**
 * Server-sent events as a response body that is pulled: the next event is asked for when the socket has taken the last
 * one, so a slow reader slows its producer. A comment line goes out whenever nothing came for `pingMs`.
 * `onClose` is called once: when the last event is written, or (`left`) when the reader has gone.
 */
export function eventStream(
  events: AsyncGenerator<string, void>,
  pingMs: number,
  onClose: (left: boolean) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let pending: Promise<IteratorResult<string, void>> | undefined;
  return new ReadableStream(
    {
      async pull(controller) {
        pending ??= events.next();
        const event = await orNothing(pending, pingMs);
        if (event) pending = undefined;
        if (event?.done) {
          controller.close();
          onClose(false);
        } else {
          controller.enqueue(encoder.encode(event?.value ?? PING));
        }
      },
      cancel() {
        onClose(true);
        // Not awaited: a producer that waits for its next event answers when it notices what onClose has stopped.
        events.return().catch(() => {});
      },
    },
    { highWaterMark: 0 },
  );
}

function orNothing<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms, undefined);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
