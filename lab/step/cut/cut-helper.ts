import { workerData } from "node:worker_threads";
import { decodeJob, runShare } from "./cut-job.js";
import { cutArrays } from "./cut-memory.js";
import { BUSY, type HelperOptions, JOBS } from "./cut-threads.js";
import { RowCutter } from "./row-cutter.js";

const { buffers, sizes, job, control, thread, threads }: HelperOptions = workerData;
const cutter = new RowCutter(cutArrays(buffers), sizes);
const [numbers, words] = [new Float64Array(job), new Int32Array(control)];

for (let done = 0; ; done++) {
  Atomics.wait(words, JOBS, done);
  runShare(cutter, decodeJob(numbers), thread, threads);
  Atomics.sub(words, BUSY, 1);
  Atomics.notify(words, BUSY);
}
