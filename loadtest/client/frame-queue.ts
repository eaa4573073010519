import type { ErrorFrame } from "./messages.js";
import type { TraceFrame } from "./trace-frame.js";

/** Counts the bytes of frames that have come and were not read. */
export interface Backlog {
  add(bytes: number): void;
  remove(bytes: number): void;
}

/** Frames of one generation, between the socket and their reader. */
export interface FrameQueue {
  push(frame: TraceFrame | ErrorFrame, bytes: number): void;
  /** Nothing comes any more: after what has come, `next` throws this. */
  fail(error: unknown): void;
  /** Forgets what has come. */
  drop(): void;
  next(): Promise<TraceFrame | ErrorFrame>;
}

export function createFrameQueue(backlog: Backlog): FrameQueue {
  let waiting: { readonly frame: TraceFrame | ErrorFrame; readonly bytes: number }[] = [];
  let failure: { readonly error: unknown } | null = null;
  let wake = (): void => {};
  return {
    push(frame, bytes) {
      waiting.push({ frame, bytes });
      backlog.add(bytes);
      wake();
    },
    fail(error) {
      failure ??= { error };
      wake();
    },
    drop() {
      for (const { bytes } of waiting) backlog.remove(bytes);
      waiting = [];
    },
    async next() {
      for (;;) {
        const first = waiting.shift();
        if (first !== undefined) {
          backlog.remove(first.bytes);
          return first.frame;
        }
        if (failure !== null) throw failure.error;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
