/** What the tokenizer's library may take for a text; it has no limits of its own. */
export interface LibraryLimits {
  /** Bytes of the whole process. */
  readonly memory: number;
  /** Milliseconds, to which a long text adds some. */
  readonly ms: number;
}

/** This is a hundred times what a busy machine takes. */
const MS_PER_CHARACTER = 0.1;
const LOOK_MS = 20;

/** Ends this process where a call of the library takes too much: nothing else would end the call. */
export class Watch {
  readonly #deadlines = new Set<{ readonly at: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly limits: LibraryLimits) {}

  /** The result of a call that has to do with so many characters. */
  async over<T>(characters: number, call: () => Promise<T>): Promise<T> {
    const deadline = { at: performance.now() + this.limits.ms + characters * MS_PER_CHARACTER };
    this.#deadlines.add(deadline);
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
    try {
      return await call();
    } finally {
      this.#deadlines.delete(deadline);
      if (this.#deadlines.size === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
      }
    }
  }

  #look(): void {
    const now = performance.now();
    const late = [...this.#deadlines].some(({ at }) => at < now);
    // Not by process.exit, which waits for the library's threads.
    if (late || process.memoryUsage.rss() > this.limits.memory) process.kill(process.pid, "SIGKILL");
  }
}
