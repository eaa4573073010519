import { parentPort, workerData } from "node:worker_threads";
import { z } from "zod";
import { ModelFormatError } from "../models/errors.js";
import type { TokenBytesData } from "../models/tokenizer/token-bytes.js";
import { openTokenizer, type Tokenizer } from "../models/tokenizer/tokenizer.js";

/** To the worker: encode this. */
export interface EncodeRequest {
  readonly job: number;
  readonly text: string;
}

/** From the worker: first one of ready, absent or unusable, then an answer to every request. */
export type EncoderMessage =
  | { readonly type: "ready"; readonly tokens: TokenBytesData }
  | { readonly type: "absent" }
  | { readonly type: "unusable"; readonly file: string; readonly reason: string }
  | { readonly type: "encoded"; readonly job: number; readonly ids: Int32Array<ArrayBuffer> }
  | { readonly type: "failed"; readonly job: number; readonly message: string };

/** A few milliseconds of work: what a short text waits for at most while a long one is being encoded. */
const PIECE_LENGTH = 4096;

interface Job {
  readonly id: number;
  readonly pieces: Iterator<string>;
  next: IteratorResult<string>;
  ids: Int32Array<ArrayBuffer>;
  length: number;
}

const port = parentPort;
if (!port) throw new Error("encoder-worker.js runs as a worker thread");
const send = (message: EncoderMessage, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

const tokenizer = open();
if (tokenizer) serve(tokenizer);

function open(): Tokenizer | null {
  const { path, vocabSize } = z.object({ path: z.string(), vocabSize: z.int() }).parse(workerData);
  try {
    const opened = openTokenizer(path, vocabSize);
    send(opened ? { type: "ready", tokens: opened.tokens.data } : { type: "absent" });
    return opened;
  } catch (error) {
    if (!(error instanceof ModelFormatError)) throw error;
    send({ type: "unusable", file: error.file, reason: error.reason });
    return null;
  }
}

/** Each turn of the event loop takes one piece of a new text, in order of arrival, and one of a long text, these going round. */
function serve({ encode, pieces }: Tokenizer): void {
  const arrived: Job[] = [];
  const long: Job[] = [];
  let running = false;
  port?.on("message", ({ job, text }: EncodeRequest) => {
    const parts = pieces(text, PIECE_LENGTH)[Symbol.iterator]();
    arrived.push({ id: job, pieces: parts, next: parts.next(), ids: new Int32Array(256), length: 0 });
    if (!running) setImmediate(turn);
    running = true;
  });

  const turn = () => {
    for (const job of [arrived.shift(), long.shift()]) if (job) advance(job);
    running = arrived.length + long.length > 0;
    if (running) setImmediate(turn);
  };

  const advance = (job: Job) => {
    try {
      if (!job.next.done) {
        append(job, encode(job.next.value));
        job.next = job.pieces.next();
      }
    } catch (error) {
      return send({ type: "failed", job: job.id, message: error instanceof Error ? error.message : String(error) });
    }
    if (!job.next.done) return void long.push(job);
    const ids = job.ids.slice(0, job.length);
    send({ type: "encoded", job: job.id, ids }, [ids.buffer]);
  };
}

function append(job: Job, ids: readonly number[]): void {
  if (job.length + ids.length > job.ids.length) {
    const grown = new Int32Array(Math.max(2 * job.ids.length, job.length + ids.length));
    grown.set(job.ids);
    job.ids = grown;
  }
  job.ids.set(ids, job.length);
  job.length += ids.length;
}
