import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { OutgoingMessage } from "node:http";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { PerformanceObserver } from "node:perf_hooks";
import workerThreads, { isMainThread, parentPort } from "node:worker_threads";
import { type WaitingTime, waitingTime } from "./thread-times.js";

/**
 * Preloaded into a server by bench:server-cost (`node --import timeline.js`): notes when each token leaves the engine's
 * thread and when it is written, and when garbage is collected. Each thread leaves a file at its exit, in the folder that
 * LAMBDATAP_TIMELINE names.
 */
export interface Timeline {
  readonly posts: Stage;
  readonly writes: Stage;
  /** Garbage collections of the thread: start, and length in ms. */
  readonly garbage: readonly (readonly [start: number, ms: number])[];
}

/** A place that tokens pass. Times in ms of the system's monotonic clock. */
export interface Stage {
  readonly at: number[];
  /** Events that have passed so far. */
  readonly events: number[];
  /** How long the thread has waited for a processor so far, in ms. */
  readonly waited: number[];
  /** The same of the computation's other threads. */
  readonly othersWaited: number[];
}

export const emptyStage = (): Stage => ({ at: [], events: [], waited: [], othersWaited: [] });

/** Milliseconds of the clock that all processes of a machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Server-sent events that begin in a piece of a stream. */
export function eventsIn(piece: Uint8Array): number {
  const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  let count = 0;
  for (let at = bytes.indexOf("data:"); at >= 0; at = bytes.indexOf("data:", at + 5)) count += 1;
  return count;
}

export function note(stage: Stage, events: number, own: WaitingTime, others?: WaitingTime): void {
  stage.at.push(now());
  stage.events.push((stage.events.at(-1) ?? 0) + events);
  stage.waited.push(own.read());
  stage.othersWaited.push(others?.read() ?? 0);
}

const folder = process.env.LAMBDATAP_TIMELINE;
if (folder !== undefined) {
  const timeline = watch();
  process.on("exit", () => {
    if (timeline.posts.at.length + timeline.writes.at.length === 0) return;
    writeFileSync(join(folder, isMainThread ? "http.json" : "engine.json"), JSON.stringify(timeline));
  });
  if (isMainThread) watchHttp(timeline);
  else await watchEngine(timeline);
}

function watch(): Timeline {
  const garbage: [number, number][] = [];
  new PerformanceObserver((list) => {
    const offset = now() - performance.now();
    for (const { startTime, duration } of list.getEntries()) garbage.push([startTime + offset, duration]);
  }).observe({ entryTypes: ["gc"] });
  return { posts: emptyStage(), writes: emptyStage(), garbage };
}

/** Every thread that the server starts begins with this file, which then loads what the server asked for. */
function watchHttp({ writes }: Timeline): void {
  const own = waitingTime();
  class NotedWorker extends workerThreads.Worker {
    constructor(url: string | URL, options: workerThreads.WorkerOptions = {}) {
      super(new URL(import.meta.url), { ...options, argv: [String(url)] });
    }
  }
  Object.assign(workerThreads, { Worker: NotedWorker });
  syncBuiltinESMExports();
  const { write } = OutgoingMessage.prototype;
  OutgoingMessage.prototype.write = new Proxy(write, {
    apply(target, response, args) {
      const [piece] = args;
      if (piece instanceof Uint8Array || typeof piece === "string") note(writes, eventsIn(Buffer.from(piece)), own);
      return Reflect.apply(target, response, args);
    },
  });
}

async function watchEngine({ posts }: Timeline): Promise<void> {
  const port = parentPort;
  if (port === null) throw new Error("the engine's thread has no port");
  const own = waitingTime();
  const self = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
  let others: WaitingTime | undefined;
  const post = port.postMessage.bind(port);
  port.postMessage = (message: unknown, ...rest: never[]) => {
    if (isEvents(message)) {
      // Threads younger than the engine's are those that it shares its computation with.
      others ??= waitingTime(
        readdirSync("/proc/self/task")
          .map(Number)
          .filter((tid) => tid > self),
      );
      note(posts, 1, own, others);
    }
    post(message, ...rest);
  };
  await import(process.argv[2] ?? "");
}

function isEvents(message: unknown): boolean {
  return Object(message).type === "events";
}
