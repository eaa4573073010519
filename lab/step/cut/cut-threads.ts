import { Worker } from "node:worker_threads";
import { type CutJob, encodeJob, JOB_NUMBERS, runShare } from "./cut-job.js";
import { type CutArrays, type CutBuffers, type CutSizes, cutArrays, cutBuffers } from "./cut-memory.js";
import { RowCutter } from "./row-cutter.js";

/** What a helping thread is started with. */
export interface HelperOptions {
  readonly buffers: CutBuffers;
  readonly sizes: CutSizes;
  readonly job: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly thread: number;
  readonly threads: number;
}

/** Places of the control words: how many jobs there were, and how many helpers are still at the last. */
export const JOBS = 0;
export const BUSY = 1;
/** A job takes milliseconds. Waits are short, so that a process that was stopped for long has waited once at most. */
const WAIT_MS = 1000;
const MOST_WAITS = 60;

/** Threads that cut the rows of a batch together, this one among them. */
export class CutThreads implements Disposable {
  readonly arrays: CutArrays;
  readonly buffers: CutBuffers;
  readonly #cutter: RowCutter;
  readonly #job = new Float64Array(new SharedArrayBuffer(JOB_NUMBERS * Float64Array.BYTES_PER_ELEMENT));
  readonly #control = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  readonly #helpers: Worker[];

  constructor(
    readonly sizes: CutSizes,
    readonly threads: number,
  ) {
    this.buffers = cutBuffers(sizes, threads);
    this.arrays = cutArrays(this.buffers);
    this.#cutter = new RowCutter(this.arrays, sizes);
    this.#helpers = Array.from({ length: threads - 1 }, (_, i) => this.#start(i + 1));
  }

  /** Does a job with all rows; returns when it is done. */
  run(job: CutJob): void {
    const control = this.#control;
    const helpers = this.threads - 1;
    encodeJob(job, this.#job);
    Atomics.store(control, BUSY, helpers);
    Atomics.add(control, JOBS, 1);
    Atomics.notify(control, JOBS);
    runShare(this.#cutter, job, 0, this.threads);
    let waits = 0;
    for (let busy = helpers; busy > 0; busy = Atomics.load(control, BUSY))
      if (Atomics.wait(control, BUSY, busy, WAIT_MS) === "timed-out" && ++waits === MOST_WAITS)
        throw new Error("a thread that cuts rows does not answer");
  }

  [Symbol.dispose](): void {
    for (const helper of this.#helpers) void helper.terminate();
  }

  #start(thread: number): Worker {
    const { buffers, sizes, threads } = this;
    const shared = { job: this.#job.buffer, control: this.#control.buffer };
    const options: HelperOptions = { buffers, sizes, thread, threads, ...shared };
    const helper = new Worker(new URL("./cut-helper.js", import.meta.url), { workerData: options });
    helper.unref();
    return helper;
  }
}
