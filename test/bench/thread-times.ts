import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";

/** Processor time of a process in microseconds: of all its threads, and of the one that runs its event loop. Linux only. */
export interface ProcessorTime {
  readonly all: number;
  readonly main: number;
}

/** The kernel counts a thread's time when it stops or at its next tick. */
const COUNTED_AFTER_MS = 50;

/** What a process uses while something happens. */
export async function processorTimeOf(pid: number, happening: () => Promise<void>): Promise<ProcessorTime> {
  const before = processorTime(pid);
  await happening();
  await new Promise((resolve) => setTimeout(resolve, COUNTED_AFTER_MS));
  const after = processorTime(pid);
  return { all: after.all - before.all, main: after.main - before.main };
}

/** What a process has used so far (/proc/pid/task/tid/schedstat, of the threads that live). */
function processorTime(pid: number): ProcessorTime {
  let all = 0;
  let main = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const used = Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "latin1").split(" ")[0]) / 1000;
    all += used;
    if (tid === String(pid)) main = used;
  }
  return { all, main };
}

/** Time that threads of this process have waited for a processor, in milliseconds, read again and again. */
export interface WaitingTime extends Disposable {
  read(): number;
}

/** @param threads ids of threads of this process; left out: the calling one */
export function waitingTime(threads: readonly number[] | "self" = "self"): WaitingTime {
  const paths = threads === "self" ? ["/proc/thread-self"] : threads.map((tid) => `/proc/self/task/${tid}`);
  const files = paths.map((path) => openSync(`${path}/schedstat`, "r"));
  const text = Buffer.alloc(100);
  return {
    read() {
      let sum = 0;
      for (const file of files) {
        const length = readSync(file, text, 0, text.length, 0);
        sum += Number(text.toString("latin1", 0, length).split(" ")[1]);
      }
      return sum / 1e6;
    },
    [Symbol.dispose]() {
      for (const file of files) closeSync(file);
    },
  };
}

/** Time that the machine's host has given to others while processors here had work, in milliseconds; in steps of 10. */
export const stolenTime = (): number => Number(readFileSync("/proc/stat", "latin1").split(/\s+/, 9)[8]) * 10;
