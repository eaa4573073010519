import type { GenerationEvent } from "../contract/generation.js";
import { eventCredit } from "./event-credit.js";

/** What is read is acknowledged when it comes to this much credit. */
const ACKNOWLEDGED_TOGETHER = 16;

export interface EventStreamOptions {
  /** Sequences that are going to end, at least one. */
  readonly sequences: number;
  /** The reader has taken events of this much credit (`eventCredit`). */
  readonly acknowledge: (credit: number) => void;
  /** All sequences have ended, or the reader has gone; called once. */
  readonly closed: (finished: boolean) => void;
}

/** The events of one request, between the engine's thread and their reader. */
export class EventStream implements AsyncIterableIterator<GenerationEvent> {
  #queue: GenerationEvent[] = [];
  #credit = 0;
  #open: number;
  #done = false;
  #error: Error | null = null;
  #waiting: (() => void)[] = [];
  readonly #options: EventStreamOptions;

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.#open = options.sequences;
  }

  push(events: readonly GenerationEvent[]): void {
    if (this.#done) return;
    this.#queue.push(...events);
    for (const { type } of events) if (type === "end" || type === "error") this.#open--;
    if (this.#open === 0) this.#close(true);
    this.#notify();
  }

  /** Ends the stream for its reader with an error, or quietly (aborted). What has ended by itself can still be read. */
  abort(error: Error | null): void {
    if (this.#done) return;
    this.#queue = [];
    this.#error = error;
    this.#close(false);
    this.#notify();
  }

  async next(): Promise<IteratorResult<GenerationEvent>> {
    for (;;) {
      const value = this.#queue.shift();
      if (value !== undefined) {
        this.#credit += eventCredit(value);
        if (this.#credit >= ACKNOWLEDGED_TOGETHER && !this.#done) {
          this.#options.acknowledge(this.#credit);
          this.#credit = 0;
        }
        return { value, done: false };
      }
      if (this.#error !== null) throw this.#error;
      if (this.#done) return { value: undefined, done: true };
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** The reader leaves. */
  async return(): Promise<IteratorResult<GenerationEvent>> {
    this.abort(null);
    this.#queue = [];
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #close(finished: boolean): void {
    this.#done = true;
    this.#options.closed(finished);
  }

  #notify(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
