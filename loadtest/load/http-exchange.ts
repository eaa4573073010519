import { TargetFailure } from "../target/failure.js";
import { type RawAnswer, readStream, readWhole } from "./http-answer.js";
import type { Outcomes } from "./outcomes.js";
import { collectEvents } from "./stream-events.js";

/** Follows the requests of one connection, one after the other, by what its client tells; after its end it hears nothing. */
export interface HttpExchange {
  sent(): void;
  headersCame(): void;
  bodyCame(piece: Uint8Array): void;
  answered(answer: Pick<RawAnswer, "status" | "type" | "body">): void;
  lost(why: string, cause: unknown): void;
  /** The scenario is over. */
  cut(): void;
}

export interface HttpExchangeOptions {
  readonly url: string;
  readonly path: string;
  readonly timeoutMs: number;
  /** Whether answers are asked for as streams. */
  readonly streams: boolean;
  readonly maxTokens: number;
  /** The connection can no longer be used, or is not to be. */
  readonly onEnd: () => void;
}

export function followExchange(options: HttpExchangeOptions, outcomes: Outcomes): HttpExchange {
  const { url, path, timeoutMs, streams, maxTokens, onEnd } = options;
  let stream = collectEvents();
  let silence: NodeJS.Timeout | undefined;
  let sentAt = 0;
  let isOver = false;
  /** A request waits for its answer; its answer has begun; it is not the first of its connection. */
  let [isWaiting, hasBegun, isLater] = [false, false, false];
  const end = (): void => {
    isOver = true;
    clearTimeout(silence);
    onEnd();
  };
  const fail = (failure: TargetFailure): void => {
    if (isOver) return;
    outcomes.failed(failure);
    end();
  };
  const wait = (): void => {
    clearTimeout(silence);
    if (isOver) return;
    const message = `${url}${path} said nothing for ${timeoutMs / 1000} s`;
    silence = setTimeout(() => fail(new TargetFailure("timed out", message)), timeoutMs);
  };
  const lose = (why: string, cause?: unknown): void => {
    const what = hasBegun ? "stopped in the middle of an answer" : "gave no answer";
    fail(new TargetFailure(hasBegun ? "broken off" : "unreachable", `${url}${path} ${what}: ${why}`, null, { cause }));
  };
  /** A server may close a kept connection while a request is on its way: that is no failure, and it is sent again, once. */
  const mayRepeat = (): boolean => isWaiting && isLater && !hasBegun;

  return {
    sent() {
      if (isOver) return;
      if (isWaiting && !mayRepeat()) {
        lose("the connection was closed");
        return;
      }
      isLater = isLater && !isWaiting;
      [isWaiting, hasBegun, sentAt] = [true, false, performance.now()];
      stream = collectEvents();
      wait();
    },
    headersCame() {
      hasBegun = true;
      wait();
    },
    bodyCame(piece) {
      if (streams) stream.hear(piece);
      wait();
    },
    answered(answer) {
      if (isOver) return;
      [isWaiting, hasBegun, isLater] = [false, false, true];
      clearTimeout(silence);
      const raw = { url, ...answer, sentAt, events: stream.events, maxTokens };
      try {
        outcomes.answered(streams ? readStream(raw) : readWhole(raw));
      } catch (error) {
        if (!(error instanceof TargetFailure)) throw error;
        if (!outcomes.failed(error)) end();
      }
    },
    lost(why, cause) {
      if (!mayRepeat()) lose(why, cause);
    },
    cut() {
      if (isOver) return;
      end();
      outcomes.cut(isWaiting ? stream.events.length : 0);
    },
  };
}
