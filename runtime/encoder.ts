import { Worker } from "node:worker_threads";
import { ModelFormatError } from "../models/errors.js";
import { TokenBytes } from "../models/tokenizer/token-bytes.js";
import type { EncodeRequest, EncoderMessage } from "./encoder-worker.js";

interface Pending {
  resolve(ids: number[]): void;
  reject(error: Error): void;
}

/**
 * A tokenizer on a thread of its own. Several texts are encoded in turns, so that a short one does not wait for a long one
 * (unless the long one has no place where it may be cut: see models/tokenizer/text-pieces.ts).
 */
export class Encoder {
  readonly #pending = new Map<number, Pending>();
  #ended: Error | null = null;
  #jobs = 0;

  private constructor(
    private readonly worker: Worker,
    /** Bytes of every token, on memory that threads share. */
    readonly tokens: TokenBytes,
  ) {
    worker.on("message", (message: EncoderMessage) => this.#receive(message));
    worker.on("error", (error) => this.#end(new Error(`the tokenizer's thread failed: ${error.message}`)));
    worker.on("exit", () => this.#end(new Error("the tokenizer's thread has ended")));
  }

  /**
   * Opens the tokenizer of the model at `path` on a new thread; null where it has none.
   * @param vocabSize number of ids that the model knows
   * @throws ModelFormatError as `openTokenizer` does.
   */
  static async start(path: string, vocabSize: number): Promise<Encoder | null> {
    const worker = new Worker(new URL("./encoder-worker.js", import.meta.url), {
      workerData: { path, vocabSize },
      // Reading 50,000 tokens makes much that is soon garbage; a small nursery keeps the heap at half the size.
      resourceLimits: { maxYoungGenerationSizeMb: 2 },
    });
    const first = await new Promise<EncoderMessage>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
      worker.once("exit", () => reject(new Error("the tokenizer's thread ended before it was ready")));
    });
    if (first.type === "ready") return new Encoder(worker, new TokenBytes(first.tokens));
    await worker.terminate();
    if (first.type === "unusable") throw new ModelFormatError(first.file, first.reason);
    return null;
  }

  /** Ids of a text as `Tokenizer.encode` gives them. Rejects when the text cannot be encoded or the thread has ended. */
  encode(text: string): Promise<number[]> {
    const ended = this.#ended;
    if (ended) return Promise.reject(ended);
    return new Promise((resolve, reject) => {
      const job = this.#jobs++;
      this.#pending.set(job, { resolve, reject });
      this.worker.postMessage({ job, text } satisfies EncodeRequest);
    });
  }

  /** Ends the thread; what is pending rejects. */
  async close(): Promise<void> {
    this.#end(new Error("the tokenizer is closed"));
    await this.worker.terminate();
  }

  #receive(message: EncoderMessage): void {
    if (message.type !== "encoded" && message.type !== "failed") return;
    const pending = this.#pending.get(message.job);
    this.#pending.delete(message.job);
    if (message.type === "encoded") pending?.resolve(numbers(message.ids));
    else pending?.reject(new Error(`the text cannot be encoded: ${message.message}`));
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#pending.values()) reject(this.#ended);
    this.#pending.clear();
  }
}

/** Array.from takes 6 ms for 100,000 ids and this 0.6 ms; it runs on the thread that serves requests. */
function numbers(ids: Int32Array): number[] {
  const copy = new Array<number>(ids.length);
  for (let i = 0; i < ids.length; i++) copy[i] = ids[i]!;
  return copy;
}
