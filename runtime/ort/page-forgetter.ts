import { workerData } from "node:worker_threads";
import { z } from "zod";
import { openLibrary } from "./c-library.js";

/**
 * A thread that gives the pages of a mapped file back every few milliseconds, until word 0 of `done` is set: while another
 * thread is inside one long native call that reads the whole file once.
 */
const EVERY_MS = 3;
const MADV_DONTNEED = 4;

const { address, bytes, done } = z
  .object({ address: z.bigint(), bytes: z.number(), done: z.instanceof(Int32Array) })
  .parse(workerData);
const madvise = openLibrary(null).func("madvise", "int", ["uintptr_t", "size_t", "int"]);
while (Atomics.wait(done, 0, 0, EVERY_MS) === "timed-out") madvise(address, bytes, MADV_DONTNEED);
// Whoever unmaps the file waits for this.
Atomics.store(done, 0, 2);
Atomics.notify(done, 0);
