import { createParser } from "eventsource-parser";

/** The data of a server-sent event, and performance.now() when all of it was here. */
export interface StreamEvent {
  readonly data: string;
  readonly at: number;
}

/** The events of one stream, as pieces of its body come. */
export interface StreamEvents {
  readonly events: readonly StreamEvent[];
  hear(piece: Uint8Array): void;
}

export function collectEvents(): StreamEvents {
  const events: StreamEvent[] = [];
  const decoder = new TextDecoder();
  const parser = createParser({ onEvent: ({ data }) => events.push({ data, at: performance.now() }) });
  return { events, hear: (piece) => parser.feed(decoder.decode(piece, { stream: true })) };
}
