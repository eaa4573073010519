import type { TargetFailure } from "../target/failure.js";

/** An answer that came whole; times in ms since its request was sent. */
export interface Answer {
  readonly latencyMs: number;
  /** As the server's usage says; where its stream has none, the pieces that came. */
  readonly tokens: number;
  /** null where the server does not say. */
  readonly promptTokens: number | null;
  /** When each piece of text came; none where the answer came in one. */
  readonly arrivals: readonly number[];
}

/** What becomes of the requests of a connection. */
export interface Outcomes {
  answered(answer: Answer): void;
  /** Returns whether the connection may go on at once: the failure is what the scenario is for. */
  failed(failure: TargetFailure): boolean;
  /** The scenario ended in the middle of an answer of which so many pieces had come. */
  cut(pieces: number): void;
}

/**
 * Asks again and again over one connection, until the signal aborts, the connection ends or a request fails. Whoever opened
 * it opens the next.
 */
export type Connection = (outcomes: Outcomes, signal: AbortSignal) => Promise<void>;
